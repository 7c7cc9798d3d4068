// The descriptors of a product of the emulated cuBLASLt, and whether the library supports such a
// product.
#pragma once

#include <set>
#include <utility>

#include "emulated/device/cublaslt.h"
#include "emulated/device/footprint.h"
#include "emulated/device/host_product.h"

namespace facet::emulated {

inline DType dtype_of(cudaDataType type) {
  if (type == CUDA_R_32F) return DType::kF32;
  return type == CUDA_R_16F ? DType::kF16 : DType::kBF16;
}

struct LtContext {
  std::set<std::pair<uint64_t, uint64_t>> checked;  // products, and the algorithms checked for them
};

struct MatmulDescription {
  cublasComputeType_t compute;
  cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
};

struct MatrixLayout {
  cudaDataType type;
  int64_t rows, cols, ld;
  cublasLtOrder_t order = CUBLASLT_ORDER_COL;

  bool operator==(const MatrixLayout&) const = default;
  int64_t line_elements() const { return order == CUBLASLT_ORDER_COL ? rows : cols; }
  int64_t lines() const { return order == CUBLASLT_ORDER_COL ? cols : rows; }
  Footprint footprint(const void* data) const;
  StridedMatrix matrix(const void* data, cublasOperation_t operation = CUBLAS_OP_N) const;
};

struct MatmulPreference {
  uint64_t workspace_bytes = 0;
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint32_t alignment_a = 256, alignment_b = 256, alignment_c = 256, alignment_d = 256;
};

// A product with copies of its descriptors, which the caller may change or destroy after the call.
struct Matmul {
  MatmulDescription description;
  MatrixLayout a, b, c, d;
  Site where;  // of the call

  // Fails if the library has no such product.
  Matmul(cublasLtMatmulDesc_t description, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
         cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, Site where);
  uint64_t fingerprint() const;

 private:
  void check_sizes() const;
  void check_types() const;
};

}  // namespace facet::emulated
