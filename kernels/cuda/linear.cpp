#include "kernels/cuda/linear.h"

#include <compare>
#include <map>
#include <string>
#include <utility>

#include "base/check.h"
#include "kernels/cuda/launchers.h"

namespace facet::cuda {
namespace {

void check(cublasStatus_t status, const char* what) {
  CHECK(status == CUBLAS_STATUS_SUCCESS, ExitCode::kInternal,
        "cuBLASLt could not {}: {}; run the program under compute-sanitizer to see whether an "
        "earlier kernel failed",
        what, cublasLtGetStatusString(status));
}

cudaDataType_t type_of(DType dtype) {
  ASSERT(dtype == DType::kF32 || is_16_bit(dtype), "a product of {}", name_of(dtype));
  if (dtype == DType::kF32) return CUDA_R_32F;
  return dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_16F;
}

// Alignment of an address, capped. A kernel's widest access is 16 bytes, and arenas guarantee no
// more than 64: with a higher cap, equal layers would get different plans by chance.
constexpr uintptr_t kMostAlignment = 16;
uint32_t alignment_of(const void* data) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(data) | kMostAlignment;
  return static_cast<uint32_t>(address & -address);
}

// cuBLASLt is column-major: it sees a row-major matrix as its transpose.
struct Layout {
  DType dtype;
  int64_t rows, cols, stride;
  uint32_t alignment;

  explicit Layout(const Operand& x)
      : dtype(x.dtype),
        rows(x.cols),
        cols(x.rows),
        stride(x.stride),
        alignment(alignment_of(x.data)) {}
  auto operator<=>(const Layout&) const = default;
};

std::string text_of(const Layout& x) {
  return fmt::format("{} ({}, {}) by columns {} apart, aligned to {} bytes", name_of(x.dtype),
                     x.rows, x.cols, x.stride, x.alignment);
}
const char* name_of(cublasOperation_t operation) {
  return operation == CUBLAS_OP_T ? "transposed" : "plain";
}

// Everything that the choice of an algorithm depends on.
struct Key {
  cublasOperation_t transpose_a, transpose_b;
  Layout a, b, c, d;
  uint32_t bias_alignment;  // 0: no bias
  auto operator<=>(const Key&) const = default;
};

// ---- cuBLASLt's descriptors, owned

class MatrixLayout {
 public:
  explicit MatrixLayout(const Layout& x) {
    check(cublasLtMatrixLayoutCreate(&layout_, type_of(x.dtype), static_cast<uint64_t>(x.rows),
                                     static_cast<uint64_t>(x.cols), x.stride),
          "describe a matrix");
  }
  ~MatrixLayout() { cublasLtMatrixLayoutDestroy(layout_); }
  MatrixLayout(const MatrixLayout&) = delete;
  MatrixLayout& operator=(const MatrixLayout&) = delete;
  operator cublasLtMatrixLayout_t() const { return layout_; }

 private:
  cublasLtMatrixLayout_t layout_ = nullptr;
};

class Description {
 public:
  Description() {
    check(cublasLtMatmulDescCreate(&description_, CUBLAS_COMPUTE_32F, CUDA_R_32F),
          "describe a product");
  }
  ~Description() { cublasLtMatmulDescDestroy(description_); }
  Description(const Description&) = delete;
  Description& operator=(const Description&) = delete;
  operator cublasLtMatmulDesc_t() const { return description_; }

  template <typename T>
  void set(cublasLtMatmulDescAttributes_t attribute, T value) {
    check(cublasLtMatmulDescSetAttribute(description_, attribute, &value, sizeof value),
          "describe a product");
  }

 private:
  cublasLtMatmulDesc_t description_ = nullptr;
};

class Preference {
 public:
  Preference() { check(cublasLtMatmulPreferenceCreate(&preference_), "hold preferences"); }
  ~Preference() { cublasLtMatmulPreferenceDestroy(preference_); }
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;
  operator cublasLtMatmulPreference_t() const { return preference_; }

  template <typename T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    check(cublasLtMatmulPreferenceSetAttribute(preference_, attribute, &value, sizeof value),
          "hold preferences");
  }

 private:
  cublasLtMatmulPreference_t preference_ = nullptr;
};

}  // namespace

// D = op(A) op(B) + C + bias, with the operands in cuBLASLt's order: y = x W' is D' = W x'.
struct LinearProducts::Product {
  cublasOperation_t transpose_a, transpose_b;
  Operand a, b, c, d;  // no C if c has no data
  Operand bias = {};

  Key key() const {
    return {transpose_a,
            transpose_b,
            Layout(a),
            Layout(b),
            Layout(c.data ? c : d),
            Layout(d),
            bias.data ? alignment_of(bias.data) : 0};
  }
};

// Descriptors and algorithm for products of one shape. There is no preference for the alignment of
// the bias: cuBLASLt uses that of the pointer set while it chooses.
class LinearProducts::Plan {
 public:
  Plan(cublasLtHandle_t handle, const Key& key, const void* bias, size_t workspace_bytes)
      : a_(key.a), b_(key.b), c_(key.c), d_(key.d) {
    description_.set(CUBLASLT_MATMUL_DESC_TRANSA, key.transpose_a);
    description_.set(CUBLASLT_MATMUL_DESC_TRANSB, key.transpose_b);
    if (bias) description_.set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set_bias(bias);

    Preference preference;
    preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{workspace_bytes});
    preference.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                   uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.a.alignment);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.b.alignment);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.c.alignment);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.d.alignment);
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle, description_, a_, b_, c_, d_, preference, 1, &chosen_, &found);
    // A result's other fields are valid only if its state is success.
    const char* const why = status != CUBLAS_STATUS_SUCCESS ? cublasLtGetStatusString(status)
                            : found == 0                    ? "none found"
                                         : cublasLtGetStatusString(chosen_.state);
    const bool usable = found == 1 && chosen_.state == CUBLAS_STATUS_SUCCESS;
    CHECK(status == CUBLAS_STATUS_SUCCESS && usable, ExitCode::kInternal,
          "cuBLASLt has no algorithm for D = {} A {} B + C, bias aligned to {} bytes: A is {}, B "
          "{}, C {}, D {}: {}; please report this with the GPU's name",
          name_of(key.transpose_a), name_of(key.transpose_b), key.bias_alignment, text_of(key.a),
          text_of(key.b), text_of(key.c), text_of(key.d), why);
  }

  void run(cublasLtHandle_t handle, const Product& product, void* workspace, cudaStream_t stream) {
    set_bias(product.bias.data);
    const float alpha = 1, beta = product.c.data ? 1 : 0;
    const void* c = product.c.data ? product.c.data : product.d.data;
    check(cublasLtMatmul(handle, description_, &alpha, product.a.data, a_, product.b.data, b_,
                         &beta, c, c_, product.d.data, d_, &chosen_.algo, workspace,
                         chosen_.workspaceSize, stream),
          "start a product");
  }

 private:
  void set_bias(const void* bias) {
    if (bias) description_.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  }

  Description description_;
  MatrixLayout a_, b_, c_, d_;
  cublasLtMatmulHeuristicResult_t chosen_{};
};

class LinearProducts::Plans {
 public:
  Plan& find_or_make(cublasLtHandle_t handle, const Product& product, size_t workspace_bytes) {
    const Key key = product.key();
    if (const auto found = plans_.find(key); found != plans_.end()) return *found->second;
    // Packed batches may have a different number of rows in every step.
    if (plans_.size() == kMostPlans) plans_.clear();
    ++made_;
    auto plan = std::make_unique<Plan>(handle, key, product.bias.data, workspace_bytes);
    return *plans_.emplace(key, std::move(plan)).first->second;
  }
  int64_t made() const { return made_; }

 private:
  static constexpr size_t kMostPlans = 4096;
  std::map<Key, std::unique_ptr<Plan>> plans_;
  int64_t made_ = 0;
};

LinearProducts::LinearProducts(cudaStream_t stream, size_t workspace_bytes)
    : stream_(stream), workspace_bytes_(workspace_bytes), plans_(std::make_unique<Plans>()) {
  check(cublasLtCreate(&handle_), "start");
  if (workspace_bytes == 0) return;
  const cudaError_t error = cudaMalloc(&workspace_, workspace_bytes);
  CHECK(error == cudaSuccess, ExitCode::kConfig, "no {} MiB of device memory for cuBLASLt: {}",
        workspace_bytes >> 20, cudaGetErrorString(error));
}

LinearProducts::~LinearProducts() {
  plans_.reset();
  if (workspace_) cudaFree(workspace_);
  cublasLtDestroy(handle_);
}

int64_t LinearProducts::plans_made() const { return plans_->made(); }

void LinearProducts::multiply(const Product& product) {
  if (product.d.rows * product.d.cols == 0) return;
  plans_->find_or_make(handle_, product, workspace_bytes_)
      .run(handle_, product, workspace_, stream_);
}

void LinearProducts::linear_forward(Operand y_NO, Operand x_NI, Operand weight_OI, Operand bias_O,
                                    Operand residual_NO) {
  // cuBLASLt cannot check this: it assumes a column of y's type.
  ASSERT(!bias_O.data || (bias_O.dtype == y_NO.dtype && bias_O.rows * bias_O.cols == y_NO.cols),
         "{} biases of {} for {} outputs of {}", bias_O.rows * bias_O.cols, name_of(bias_O.dtype),
         y_NO.cols, name_of(y_NO.dtype));
  multiply({CUBLAS_OP_T, CUBLAS_OP_N, weight_OI, x_NI, residual_NO, y_NO, bias_O});
}

void LinearProducts::linear_backward_input(Operand dx_NI, Operand dy_NO, Operand weight_OI) {
  multiply({CUBLAS_OP_N, CUBLAS_OP_N, weight_OI, dy_NO, {}, dx_NI});
}

void LinearProducts::linear_backward_input_accumulate(Operand dx_NI, Operand dy_NO,
                                                      Operand weight_OI) {
  multiply({CUBLAS_OP_N, CUBLAS_OP_N, weight_OI, dy_NO, dx_NI, dx_NI});
}

void LinearProducts::linear_backward_weight(Operand dweight_OI, Operand dbias_O, Operand dy_NO,
                                            Operand x_NI) {
  if (dy_NO.rows == 0) return;
  if (dweight_OI.data) multiply({CUBLAS_OP_N, CUBLAS_OP_T, x_NI, dy_NO, dweight_OI, dweight_OI});
  // Not by an epilogue of the product, which would overwrite dbias.
  if (dbias_O.data) sum_rows_accumulate(static_cast<float*>(dbias_O.data), dy_NO, stream_);
}

}  // namespace facet::cuda
