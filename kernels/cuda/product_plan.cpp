#include "kernels/cuda/product_plan.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "kernels/cuda/stopwatch.h"

namespace facet::cuda {
namespace {

constexpr int kMostCandidates = 8;

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

std::string text_of(const ProductLayout& x) {
  return fmt::format("{} ({}, {}) by columns {} apart, aligned to {} bytes", name_of(x.dtype),
                     x.rows, x.cols, x.stride, x.alignment);
}
const char* name_of(cublasOperation_t operation) {
  return operation == CUBLAS_OP_T ? "transposed" : "plain";
}

std::string text_of(const ProductKey& key) {
  return fmt::format("D = {} A {} B + C, bias aligned to {} bytes: A is {}, B {}, C {}, D {}",
                     name_of(key.transpose_a), name_of(key.transpose_b), key.bias_alignment,
                     text_of(key.a), text_of(key.b), text_of(key.c), text_of(key.d));
}

class Preference {
 public:
  Preference() { check_cublaslt(cublasLtMatmulPreferenceCreate(&preference_), "hold preferences"); }
  ~Preference() { cublasLtMatmulPreferenceDestroy(preference_); }
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;
  operator cublasLtMatmulPreference_t() const { return preference_; }

  template <typename T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    check_cublaslt(
        cublasLtMatmulPreferenceSetAttribute(preference_, attribute, &value, sizeof value),
        "hold preferences");
  }

 private:
  cublasLtMatmulPreference_t preference_ = nullptr;
};

}  // namespace

void check_cublaslt(cublasStatus_t status, const char* what) {
  CHECK(status == CUBLAS_STATUS_SUCCESS, ExitCode::kInternal,
        "cuBLASLt could not {}: {}; run the program under compute-sanitizer to see whether an "
        "earlier kernel failed",
        what, cublasLtGetStatusString(status));
}

ProductLayout::ProductLayout(const Operand& x)
    : dtype(x.dtype),
      rows(x.cols),
      cols(x.rows),
      stride(x.stride),
      alignment(alignment_of(x.data)) {}

std::string ProductKey::text_without_rows() const {
  const auto layout = [](const ProductLayout& x) {
    return fmt::format("{} {}/{}@{}", name_of(x.dtype), x.rows, x.stride, x.alignment);
  };
  return fmt::format(
      "{}{} {} x {} + {} -> {} bias@{}", transpose_a == CUBLAS_OP_T ? 'T' : 'N',
      transpose_b == CUBLAS_OP_T ? 'T' : 'N',
      transpose_b == CUBLAS_OP_T ? layout(a) : fmt::format("{} by {}", layout(a), a.cols),
      layout(b), layout(c), layout(d), bias_alignment);
}

ProductKey Product::key() const {
  return {transpose_a,
          transpose_b,
          ProductLayout(a),
          ProductLayout(b),
          ProductLayout(c.data ? c : d),
          ProductLayout(d),
          bias.data ? alignment_of(bias.data) : 0};
}

MatrixLayout::MatrixLayout(const ProductLayout& x) {
  check_cublaslt(
      cublasLtMatrixLayoutCreate(&layout_, type_of(x.dtype), static_cast<uint64_t>(x.rows),
                                 static_cast<uint64_t>(x.cols), x.stride),
      "describe a matrix");
}

ProductDescription::ProductDescription() {
  check_cublaslt(cublasLtMatmulDescCreate(&description_, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                 "describe a product");
}

// ---- ProductPlan

ProductPlan::ProductPlan(const ProductSite& site, const ProductKey& key, const void* bias)
    : text_(text_of(key)), a_(key.a), b_(key.b), c_(key.c), d_(key.d) {
  description_.set(CUBLASLT_MATMUL_DESC_TRANSA, key.transpose_a);
  description_.set(CUBLASLT_MATMUL_DESC_TRANSB, key.transpose_b);
  if (bias) description_.set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
  set_bias(bias);

  Preference preference;
  preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{site.workspace_bytes});
  preference.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                 uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.a.alignment);
  preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.b.alignment);
  preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.c.alignment);
  preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.d.alignment);
  std::array<Candidate, kMostCandidates> proposed{};
  int found = 0;
  cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(site.handle, description_, a_, b_, c_, d_, preference,
                                     kMostCandidates, proposed.data(), &found);
  for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < found; ++i) {
    const Candidate& candidate = proposed[static_cast<size_t>(i)];
    // A result's other fields are valid only if its state is success.
    if (candidate.state == CUBLAS_STATUS_SUCCESS) candidates_.push_back(candidate);
  }
  if (status == CUBLAS_STATUS_SUCCESS && found > 0) status = proposed[0].state;
  CHECK(!candidates_.empty(), ExitCode::kInternal,
        "cuBLASLt has no algorithm for {}: {}; please report this with the GPU's name", text_,
        status == CUBLAS_STATUS_SUCCESS ? "none found" : cublasLtGetStatusString(status));
}

bool ProductPlan::prefer(const ProductSite& site, const cublasLtMatmulAlgo_t& algorithm) {
  Candidate result{};
  const cublasStatus_t status =
      cublasLtMatmulAlgoCheck(site.handle, description_, a_, b_, c_, d_, &algorithm, &result);
  const bool usable = status == CUBLAS_STATUS_SUCCESS && result.state == CUBLAS_STATUS_SUCCESS &&
                      result.workspaceSize <= site.workspace_bytes;
  if (!usable) return false;
  result.algo = algorithm;
  candidates_.insert(candidates_.begin(), result);
  return true;
}

void ProductPlan::time(const ProductSite& site, const Product& product) {
  set_bias(product.bias.data);
  std::vector<std::pair<float, Candidate>> timed;
  for (const Candidate& candidate : candidates_)
    if (const auto taken = milliseconds(site, product, candidate))
      timed.emplace_back(*taken, candidate);
  CHECK(!timed.empty(), ExitCode::kInternal,
        "none of cuBLASLt's {} algorithms starts for {}; please report this with the GPU's name",
        candidates_.size(), text_);
  std::stable_sort(timed.begin(), timed.end(),
                   [](const auto& x, const auto& y) { return x.first < y.first; });
  candidates_.clear();
  for (const auto& [milliseconds, candidate] : timed) candidates_.push_back(candidate);
}

// Nothing if it does not start. The first run is not timed.
std::optional<float> ProductPlan::milliseconds(const ProductSite& site, const Product& product,
                                               const Candidate& candidate) {
  const float alpha = product.in_place() ? 1e-30f : 1;
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
  const float taken = milliseconds_of(site.stream, [&] {
    if (status == CUBLAS_STATUS_SUCCESS) status = start(site, product, candidate, alpha);
  });
  if (status == CUBLAS_STATUS_SUCCESS) return taken;
  warn_of(candidate, status);
  return std::nullopt;
}

void ProductPlan::run(const ProductSite& site, const Product& product) {
  set_bias(product.bias.data);
  for (;;) {
    const cublasStatus_t status = start(site, product, candidates_.front(), 1);
    if (status == CUBLAS_STATUS_SUCCESS) return;
    if (candidates_.size() == 1) check_cublaslt(status, "start a product");
    warn_of(candidates_.front(), status);
    candidates_.erase(candidates_.begin());
  }
}

cublasStatus_t ProductPlan::start(const ProductSite& site, const Product& product,
                                  const Candidate& candidate, float alpha) {
  const float beta = product.c.data ? 1 : 0;
  const void* c = product.c.data ? product.c.data : product.d.data;
  return cublasLtMatmul(site.handle, description_, &alpha, product.a.data, a_, product.b.data, b_,
                        &beta, c, c_, product.d.data, d_, &candidate.algo, site.workspace,
                        candidate.workspaceSize, site.stream);
}

void ProductPlan::set_bias(const void* bias) {
  if (bias) description_.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
}

void ProductPlan::warn_of(const Candidate& candidate, cublasStatus_t status) const {
  const auto at = std::find_if(candidates_.begin(), candidates_.end(),
                               [&](const Candidate& other) { return &other == &candidate; });
  warn("algorithm {} of {} of cuBLASLt does not start and is not used for {}: {}",
       at - candidates_.begin() + 1, candidates_.size(), text_, cublasLtGetStatusString(status));
}

}  // namespace facet::cuda
