// The emulated cuBLASLt: what it computes, and that every mistake of a caller is caught.
#include "device/cublaslt.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>

#include "base/check.h"
#include "base/half.h"
#include "emulated/device/observer.h"
#include "tests/device/cuda/emulated_device.h"
#include "tests/kernels/device_buffer.h"

namespace facet::kernel_test {
namespace {

using Halves = std::vector<uint16_t>;

struct Layout {
  cudaDataType type = CUDA_R_16BF;
  uint64_t rows, cols;
  int64_t ld;
  cublasLtOrder_t order = CUBLASLT_ORDER_COL;
};

// D (4,3) = A (4,64) B (64,3) of bf16 with a bias, all of it right until a test changes something.
struct Call {
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  cudaDataType scale = CUDA_R_32F;
  cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  Layout a{CUDA_R_16BF, 4, 64, 4}, b{CUDA_R_16BF, 64, 3, 64}, c{CUDA_R_16BF, 4, 3, 4}, d = c;
  float alpha = 1, beta = 0;
  const void *a_data = nullptr, *b_data = nullptr, *c_data = nullptr, *bias = nullptr;
  void *d_data = nullptr, *workspace = nullptr;
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  uint64_t most_workspace = 4096;
  size_t workspace_bytes = 4096;
  uint32_t alignment = 256;
  cudaStream_t stream = nullptr;
  // Between the choice of the algorithm and the call.
  std::function<void(Call&, cublasLtMatmulAlgo_t&)> then = [](Call&, cublasLtMatmulAlgo_t&) {};

  void run();
};

struct Descriptors {
  cublasLtHandle_t handle;
  cublasLtMatmulDesc_t how;
  cublasLtMatrixLayout_t a, b, c, d;
  cublasLtMatmulPreference_t preference;

  explicit Descriptors(const Call& call) {
    cublasLtCreate(&handle);
    cublasLtMatmulDescCreate(&how, call.compute, call.scale);
    set(CUBLASLT_MATMUL_DESC_TRANSA, call.transpose_a);
    set(CUBLASLT_MATMUL_DESC_TRANSB, call.transpose_b);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, call.epilogue);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, call.bias);
    make(a, call.a);
    make(b, call.b);
    make(c, call.c);
    make(d, call.d);
    cublasLtMatmulPreferenceCreate(&preference);
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, call.most_workspace);
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, call.reductions);
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      prefer(attribute, call.alignment);
  }
  ~Descriptors() {
    cublasLtMatmulPreferenceDestroy(preference);
    for (const cublasLtMatrixLayout_t layout : {a, b, c, d}) cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulDescDestroy(how);
    cublasLtDestroy(handle);
  }
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;

  template <typename T>
  void set(cublasLtMatmulDescAttributes_t attribute, T value) {
    cublasLtMatmulDescSetAttribute(how, attribute, &value, sizeof value);
  }
  template <typename T>
  void prefer(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value);
  }
  static void make(cublasLtMatrixLayout_t& layout, const Layout& x) {
    cublasLtMatrixLayoutCreate(&layout, x.type, x.rows, x.cols, x.ld);
    cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_ORDER, &x.order,
                                     sizeof x.order);
  }
};

// The descriptors are gone, and alpha and beta with them, before a late stream gets there.
void Call::run() {
  cublasLtMatmulHeuristicResult_t chosen;
  int found = 0;
  const Descriptors first(*this);
  cublasLtMatmulAlgoGetHeuristic(first.handle, first.how, first.a, first.b, first.c, first.d,
                                 first.preference, 1, &chosen, &found);
  ASSERT_EQ(found, 1);
  then(*this, chosen.algo);
  const Descriptors now(*this);
  cublasLtMatmul(now.handle, now.how, &alpha, a_data, now.a, b_data, now.b, &beta, c_data, now.c,
                 d_data, now.d, &chosen.algo, workspace, workspace_bytes, stream);
}

Halves halves(const std::vector<float>& values) {
  Halves words;
  for (const float value : values) words.push_back(bf16_from_float(value));
  return words;
}

class CublasLt : public testing::Test {
 protected:
  CublasLt() {
    for (size_t i = 0; i < 64 * 3; ++i) b_values_.push_back(std::sin(static_cast<float>(i)));
    for (size_t i = 0; i < 4 * 64; ++i) a_values_.push_back(std::cos(static_cast<float>(i)));
    a_.upload(halves(a_values_), stream_);
    b_.upload(halves(b_values_), stream_);
    c_.upload(halves(std::vector<float>(4 * 3, 2.0f)), stream_);
    bias_.upload(halves({1, 2, 3, 4}), stream_);
    call_.a_data = a_.data();
    call_.b_data = b_.data();
    call_.c_data = c_.data();
    call_.d_data = d_.data();
    call_.workspace = workspace_.data();
    call_.stream = stream_;
  }
  void TearDown() override {
    device_test::reset_device();
    emulated::set_stream_policy({});
  }

  void expect_violation(const std::string& message) {
    try {
      call_.run();
      stream_.synchronize();
      FAIL() << "nothing noticed; expected: " << message;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("cublaslt_test.cpp:"), std::string::npos)
          << error.what();
    }
  }
  float result(size_t row, size_t col) {
    return float_from_bf16(d_.download(stream_)[col * 4 + row]);
  }
  float exact(size_t row, size_t col) const {
    double sum = 0;
    for (size_t k = 0; k < 64; ++k)
      sum += double{float_from_bf16(bf16_from_float(a_values_[k * 4 + row]))} *
             float_from_bf16(bf16_from_float(b_values_[col * 64 + k]));
    return static_cast<float>(sum);
  }
  void expect_exact() {
    for (size_t row = 0; row < 4; ++row)
      for (size_t col = 0; col < 3; ++col)
        EXPECT_EQ(bf16_from_float(result(row, col)), bf16_from_float(exact(row, col)));
  }

  TestStream stream_;
  std::vector<float> a_values_, b_values_;
  DeviceBuffer<uint16_t> a_{4 * 64}, b_{64 * 3}, c_{4 * 3}, d_{4 * 3}, bias_{4};
  DeviceBuffer<char> workspace_{8192};
  Call call_;
};

TEST_F(CublasLt, ALateStreamStillGetsWhatWasSaidAtTheCall) {
  emulated::set_stream_policy({emulated::Lateness::kAsLateAsAllowed, 1});
  call_.run();
  call_.alpha = 7;
  expect_exact();
}

TEST_F(CublasLt, OrdersAndTransposesNameTheSameMatrix) {
  // A by columns is its transpose by rows.
  call_.a = {CUDA_R_16BF, 64, 4, 4, CUBLASLT_ORDER_ROW};
  call_.transpose_a = CUBLAS_OP_T;
  call_.b = {CUDA_R_16BF, 3, 64, 64, CUBLASLT_ORDER_ROW};
  call_.transpose_b = CUBLAS_OP_T;
  call_.run();
  expect_exact();
}

TEST_F(CublasLt, ScaledAndAddedWithTheBiasOfEveryRow) {
  call_.alpha = 0.5f;
  call_.beta = 3;
  call_.epilogue = CUBLASLT_EPILOGUE_BIAS;
  call_.bias = bias_.data();
  call_.run();
  for (size_t row = 0; row < 4; ++row)
    EXPECT_EQ(result(row, 2), float_from_bf16(bf16_from_float(0.5f * exact(row, 2) + 3 * 2 +
                                                              static_cast<float>(row + 1))));
}

TEST_F(CublasLt, CIsNotReadWithoutBeta) {
  call_.c_data = call_.d_data;  // NaN at first
  call_.run();
  expect_exact();
}

TEST_F(CublasLt, PartialSumsAreRoundedWhereThePreferenceAllowsIt) {
  call_.reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  call_.run();
  int different = 0;
  for (size_t row = 0; row < 4; ++row)
    for (size_t col = 0; col < 3; ++col)
      different += result(row, col) != float_from_bf16(bf16_from_float(exact(row, col)));
  EXPECT_GT(different, 0);
}

TEST_F(CublasLt, TF32InputsKeepTenBits) {
  const DeviceBuffer<float> a(std::vector<float>{1 + 1.0f / 4096}, stream_), d(1);
  call_.a = call_.b = call_.c = call_.d = {CUDA_R_32F, 1, 1, 1};
  call_.a_data = call_.b_data = a.data();
  call_.d_data = d.data();
  call_.run();
  EXPECT_GT(d.download(stream_)[0], 1);
  call_.compute = CUBLAS_COMPUTE_32F_FAST_TF32;
  call_.run();
  EXPECT_EQ(d.download(stream_)[0], 1);
}

TEST_F(CublasLt, WhatWasKeptInTheWorkspaceIsGone) {
  workspace_.upload(std::vector<char>(8192, 1), stream_);
  call_.run();
  const std::vector<char> after = workspace_.download(stream_);
  EXPECT_EQ(after[0], char(0xff));
  EXPECT_EQ(after[4095], char(0xff));
  EXPECT_EQ(after[4096], 1);
}

// ---- mistakes

TEST_F(CublasLt, AnOperandOnTheHost) {
  const Halves host(4 * 64);
  call_.a_data = host.data();
  call_.alignment = 2;
  expect_violation("A is");
}
TEST_F(CublasLt, AnOperandThatExceedsItsMemory) {
  call_.b = {CUDA_R_16BF, 64, 3, 65};
  expect_violation("B: bytes [0, 388) of the 384");
}
TEST_F(CublasLt, AnOperandThatWasFreed) {
  cudaFree(b_.data());
  expect_violation("B is device memory that was freed");
}
TEST_F(CublasLt, ABiasThatIsTooShort) {
  const DeviceBuffer<uint16_t> three(3);
  call_.epilogue = CUBLASLT_EPILOGUE_BIAS;
  call_.bias = three.data();
  expect_violation("the bias: bytes [0, 8) of the 6");
}
TEST_F(CublasLt, AnAddressLessAlignedThanPromised) {
  call_.b = {CUDA_R_16BF, 64, 2, 64};
  call_.c.cols = call_.d.cols = 2;
  call_.b_data = b_.data() + 8;
  call_.alignment = 32;
  expect_violation("its algorithm was chosen for 32-byte boundaries");
}
TEST_F(CublasLt, SizesThatDoNotMatch) {
  call_.transpose_a = CUBLAS_OP_T;
  expect_violation("a product of (64, 4) and (64, 3) into (4, 3)");
}
TEST_F(CublasLt, CAndDOfDifferentSizes) {
  call_.c.cols = 2;
  expect_violation("C (4, 2) and D (4, 3)");
}
TEST_F(CublasLt, ALeadingDimensionShorterThanTheColumn) {
  call_.b.ld = 63;
  expect_violation("a leading dimension of 63 for lines of 64");
}
TEST_F(CublasLt, AnEmptyMatrix) {
  call_.a.cols = call_.b.rows = 0;
  expect_violation("an empty matrix (4, 0)");
}
TEST_F(CublasLt, TypesThatTheLibraryDoesNotCombine) {
  call_.b.type = CUDA_R_16F;
  expect_violation("no product of bf16 and fp16");
  call_.b.type = CUDA_R_32F;
  expect_violation("no product of bf16 and fp32");
  call_.b.type = CUDA_R_16BF;
  call_.c.type = CUDA_R_32F;
  expect_violation("with C of fp32 and D of bf16");
  call_.d.type = call_.c.type = CUDA_R_16F;
  expect_violation("with C of fp16 and D of fp16");
}
TEST_F(CublasLt, FactorsThatAreNotFP32) {
  call_.scale = CUDA_R_16BF;
  expect_violation("take alpha and beta in fp32, not bf16");
}
TEST_F(CublasLt, OutputOverAnInput) {
  call_.d_data = const_cast<void*>(call_.b_data);
  expect_violation("D overlaps B");
}
TEST_F(CublasLt, OutputOverAnInputWithCInPlace) {
  call_.beta = 1;
  call_.c_data = call_.d_data = const_cast<void*>(call_.b_data);
  expect_violation("D overlaps B");
}
TEST_F(CublasLt, OutputOverAPartOfC) {
  const DeviceBuffer<uint16_t> both(16);
  call_.beta = 1;
  call_.alignment = 2;
  call_.c_data = both.data();
  call_.d_data = both.data() + 4;
  expect_violation("D overlaps C");
}
TEST_F(CublasLt, CInPlaceWithAnotherLayout) {
  call_.c.ld = 5;
  call_.c_data = call_.d_data;
  expect_violation("C aliases D with another layout");
}
TEST_F(CublasLt, ColumnBlocksOfOneBufferAreApart) {
  const DeviceBuffer<uint16_t> both(Halves(64 * 3 + 68 * 3), stream_);
  call_.alignment = 2;
  call_.b = {CUDA_R_16BF, 64, 3, 68};
  call_.b_data = both.data();
  call_.c = call_.d = {CUDA_R_16BF, 4, 3, 68};
  call_.d_data = both.data() + 64;
  call_.run();
  call_.d_data = both.data() + 63;
  expect_violation("D overlaps B");
}
TEST_F(CublasLt, AWorkspaceSmallerThanTheAlgorithmNeeds) {
  call_.workspace_bytes = 4095;
  expect_violation("a workspace of 4095 bytes, the algorithm needs 4096");
}
TEST_F(CublasLt, AWorkspaceThatExceedsItsMemory) {
  call_.workspace = workspace_.data() + 4352;
  expect_violation("the workspace: bytes [4352, 8448) of the 8192");
}
TEST_F(CublasLt, AWorkspaceOnNoBoundary) {
  call_.workspace = workspace_.data() + 16;
  expect_violation("not at a multiple of 256 bytes");
}
TEST_F(CublasLt, AWorkspaceOverAnOperand) {
  call_.b_data = workspace_.data();
  expect_violation("the workspace overlaps B");
}
TEST_F(CublasLt, AnAlgorithmForAnotherProduct) {
  call_.then = [](Call& call, cublasLtMatmulAlgo_t&) { call.a.ld = 4, call.b.ld = 80; };
  expect_violation("the algorithm was chosen for another product");
}
TEST_F(CublasLt, TheDefaultStream) {
  call_.stream = nullptr;
  expect_violation("the default stream is not used here");
}

TEST_F(CublasLt, AnAttributeOfTheWrongSize) {
  cublasLtMatmulDesc_t how;
  cublasLtMatmulDescCreate(&how, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  const int64_t transpose = CUBLAS_OP_T;
  EXPECT_THROW(cublasLtMatmulDescSetAttribute(how, CUBLASLT_MATMUL_DESC_TRANSA, &transpose,
                                              sizeof transpose),
               Error);
  cublasLtMatmulDescDestroy(how);
}

TEST_F(CublasLt, AnOperandThatWasNeverWritten) {
  const DeviceBuffer<uint16_t> fresh(64 * 3);
  call_.b_data = fresh.data();
  if (emulated::observer()) return expect_violation("reads unwritten memory");
  call_.run();
  EXPECT_TRUE(std::isnan(result(0, 0)));
}

TEST_F(CublasLt, AnOperandThatAnotherStreamWritesWithoutAnEvent) {
  if (!emulated::observer()) emulated::set_stream_policy({emulated::Lateness::kAsLateAsAllowed, 1});
  const TestStream other;
  const DeviceBuffer<uint16_t> fresh(64 * 3);
  cudaMemsetAsync(fresh.data(), 0, fresh.bytes(), other);
  call_.b_data = fresh.data();
  if (emulated::observer()) return expect_violation("race: reads what another operation");
  call_.run();
  EXPECT_TRUE(std::isnan(result(0, 0)));
}

}  // namespace
}  // namespace facet::kernel_test
