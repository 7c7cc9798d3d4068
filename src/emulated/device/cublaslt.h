// The part of cuBLASLt that the program calls, under the same names, for the emulated build. A
// broken rule throws an Error that names the caller's line, so every call returns
// CUBLAS_STATUS_SUCCESS; only the choice of an algorithm may find none, and an algorithm may fail
// to start, when a test asks for that.
//
// There are kAlgorithms algorithms for every product, which add in different orders: their results
// differ in the last bits. The first is proposed first, and another one is fastest.
//
// Where the library is free to choose, the emulation takes the choice that exposes most errors:
// partial sums are rounded to the output's type if the preference allows it, and a workspace holds
// NaNs afterwards.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "emulated/device/cuda_runtime.h"

namespace facet::emulated {
struct LtContext;
struct MatmulDescription;
struct MatrixLayout;
struct MatmulPreference;

constexpr int kAlgorithms = 6;
// What a product takes by each algorithm, on the device's clock. The variable
// FACET_EMULATED_FASTEST makes the algorithm of that number the fastest.
using AlgorithmTimes = std::array<double, kAlgorithms>;  // ms
constexpr AlgorithmTimes kAlgorithmTimes = {3, 4, 2, 5, 6, 7};
void set_algorithm_times(const AlgorithmTimes& times);
// Products that each algorithm has been started for since the program began.
std::array<int64_t, kAlgorithms> algorithm_starts();

// Makes the next choice of an algorithm return results whose state says that they cannot be used.
void refuse_next_algorithms();
// From now on products by this algorithm fail to start; -1: none does.
void fail_to_start(int algorithm);
}  // namespace facet::emulated

using cublasLtHandle_t = facet::emulated::LtContext*;
using cublasLtMatmulDesc_t = facet::emulated::MatmulDescription*;
using cublasLtMatrixLayout_t = facet::emulated::MatrixLayout*;
using cublasLtMatmulPreference_t = facet::emulated::MatmulPreference*;

enum cublasStatus_t {
  CUBLAS_STATUS_SUCCESS = 0,
  CUBLAS_STATUS_EXECUTION_FAILED = 13,
  CUBLAS_STATUS_NOT_SUPPORTED = 15
};
enum cudaDataType { CUDA_R_32F = 0, CUDA_R_16F = 2, CUDA_R_16BF = 14 };
using cudaDataType_t = cudaDataType;
enum cublasComputeType_t { CUBLAS_COMPUTE_32F = 68, CUBLAS_COMPUTE_32F_FAST_TF32 = 77 };
enum cublasOperation_t { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1 };

enum cublasLtOrder_t { CUBLASLT_ORDER_COL = 0, CUBLASLT_ORDER_ROW = 1 };
enum cublasLtMatrixLayoutAttribute_t { CUBLASLT_MATRIX_LAYOUT_ORDER = 1 };
enum cublasLtEpilogue_t { CUBLASLT_EPILOGUE_DEFAULT = 1, CUBLASLT_EPILOGUE_BIAS = 4 };
enum cublasLtMatmulDescAttributes_t {
  CUBLASLT_MATMUL_DESC_TRANSA = 3,
  CUBLASLT_MATMUL_DESC_TRANSB = 4,
  CUBLASLT_MATMUL_DESC_EPILOGUE = 7,
  CUBLASLT_MATMUL_DESC_BIAS_POINTER = 8
};
enum cublasLtReductionScheme_t {
  CUBLASLT_REDUCTION_SCHEME_NONE = 0,
  CUBLASLT_REDUCTION_SCHEME_INPLACE = 1,
  CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = 2,
  CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE = 4,
  CUBLASLT_REDUCTION_SCHEME_MASK = 7
};
enum cublasLtMatmulPreferenceAttributes_t {
  CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1,
  CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK = 3,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES = 5,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES = 6,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES = 7,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES = 8
};

// Opaque to the caller: the product it was proposed for, and the alignments assumed for it. The
// library says that it may be kept as bytes.
struct cublasLtMatmulAlgo_t {
  uint64_t product;
  uint64_t number;  // of the algorithm
  size_t workspace_bytes;
  uint32_t reductions;
  uint32_t alignment_a, alignment_b, alignment_c, alignment_d;
  uint32_t alignment_bias;
};
struct cublasLtMatmulHeuristicResult_t {
  cublasLtMatmulAlgo_t algo;
  size_t workspaceSize;
  cublasStatus_t state;
  float wavesCount;
};

inline const char* cublasLtGetStatusString(cublasStatus_t status) {
  if (status == CUBLAS_STATUS_EXECUTION_FAILED) return "execution failed";
  return status == CUBLAS_STATUS_SUCCESS ? "success" : "not supported";
}

// 130000, or what the variable FACET_EMULATED_CUBLASLT says.
size_t cublasLtGetVersion();

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle);
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle);

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description,
                                        cublasComputeType_t compute, cudaDataType_t scale,
                                        EmulatedSite where = EmulatedSite::current());
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description);
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes,
                                              EmulatedSite where = EmulatedSite::current());

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld,
                                          EmulatedSite where = EmulatedSite::current());
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout);
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, size_t bytes,
                                                EmulatedSite where = EmulatedSite::current());

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference);
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference);
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes,
                                                    EmulatedSite where = EmulatedSite::current());

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                              cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int* found,
                                              EmulatedSite where = EmulatedSite::current());

// Whether an algorithm that was proposed for another product can be used for this one: from then on
// this handle does so.
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algo,
                                       cublasLtMatmulHeuristicResult_t* result,
                                       EmulatedSite where = EmulatedSite::current());

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_bytes, cudaStream_t stream,
                              EmulatedSite where = EmulatedSite::current());
