#include "kernels/cuda/linear.h"

#include <map>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/product_plan.h"

namespace facet::cuda {

namespace {
constexpr size_t kMostPlans = 4096;
}  // namespace

class LinearProducts::Plans {
 public:
  // Null if there is none yet.
  ProductPlan* find(const ProductKey& key) const {
    const auto found = plans_.find(key);
    return found == plans_.end() ? nullptr : found->second.get();
  }
  ProductPlan& add(const ProductKey& key, std::unique_ptr<ProductPlan> plan) {
    // Packed batches may have a different number of rows in every step.
    if (plans_.size() == kMostPlans) plans_.clear();
    ++made_;
    return *plans_.emplace(key, std::move(plan)).first->second;
  }
  void clear() { plans_.clear(); }
  int64_t made() const { return made_; }

 private:
  std::map<ProductKey, std::unique_ptr<ProductPlan>> plans_;
  int64_t made_ = 0;
};

LinearProducts::LinearProducts(cudaStream_t stream, size_t workspace_bytes)
    : stream_(stream), workspace_bytes_(workspace_bytes), plans_(std::make_unique<Plans>()) {
  check_cublaslt(cublasLtCreate(&handle_), "start");
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

ProductSite LinearProducts::site() const {
  return {handle_, workspace_, workspace_bytes_, stream_};
}

void LinearProducts::multiply(const Product& product) {
  if (product.d.rows * product.d.cols == 0) return;
  const ProductKey key = product.key();
  ProductPlan* plan = plans_->find(key);
  if (!plan) plan = &plans_->add(key, make_plan(key, product));
  plan->run(site(), product);
}

std::unique_ptr<ProductPlan> LinearProducts::make_plan(const ProductKey& key,
                                                       const Product& product) {
  auto plan = std::make_unique<ProductPlan>(site(), key, product.bias.data);
  if (timing_ && !choices_.algorithms.has(key)) {
    plan->time(site(), product);
    choices_.algorithms.choose(key, plan->algorithm());
  } else if (const auto chosen = choices_.algorithms.nearest(key);
             chosen && !plan->prefer(site(), *chosen)) {
    warn(
        "cuBLASLt does not take the algorithm chosen for {} for {} rows of it; its own first "
        "proposal is used",
        key.text_without_rows(), key.rows());
  }
  return plan;
}

template <typename Key>
std::optional<LoraWay> LinearProducts::way_of(std::map<Key, LoraWay>& ways, const Key& key) {
  if (const auto found = ways.find(key); found != ways.end()) return found->second;
  if (timing_lora_ && !choices_.lora.has(key)) return std::nullopt;
  if (ways.size() == kMostPlans) ways.clear();
  return ways[key] = choices_.lora.nearest(key).value_or(LoraWay::kSeparate);
}
template std::optional<LoraWay> LinearProducts::way_of(std::map<LoraKey, LoraWay>&, const LoraKey&);
template std::optional<LoraWay> LinearProducts::way_of(std::map<LoraDownKey, LoraWay>&,
                                                       const LoraDownKey&);

void LinearProducts::time_algorithms() {
  choices_ = {};
  timing_ = true;
  plans_->clear();
}

void LinearProducts::take_choices(ProductChoices choices) {
  choices_ = std::move(choices);
  timing_ = timing_lora_ = false;
  plans_->clear();
  lora_ways_.clear();
  lora_down_ways_.clear();
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
