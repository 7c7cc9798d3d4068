// Linear layers (ops/ops.h, linear_*) by cuBLASLt, on one stream.
//
// Every output is rounded once: bias and residual are added to the fp32 sums of the product. fp32
// is multiplied in fp32, not in TF32. The same operands give the same bits on every run: cuBLASLt
// may split a long sum only if it keeps the parts in fp32 and adds them in order, and a product is
// always computed by the same of its algorithms: the first that it proposes, or the fastest, which
// time_algorithms() finds and take_choices() settles.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "device/cublaslt.h"
#include "kernels/cuda/operand.h"
#include "kernels/cuda/product_choices.h"

namespace facet::cuda {

class LinearProducts {
 public:
  // cuBLAS's own default on Hopper.
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;

  // Allocates the workspace, used on `stream`, where all products run.
  explicit LinearProducts(cudaStream_t stream, size_t workspace_bytes = kWorkspaceBytes);
  ~LinearProducts();
  LinearProducts(const LinearProducts&) = delete;
  LinearProducts& operator=(const LinearProducts&) = delete;

  // y = x W' + bias + residual, overwritten, all of one type. bias and residual may be absent;
  // residual may be y.
  void linear_forward(Operand y_NO, Operand x_NI, Operand weight_OI, Operand bias_O,
                      Operand residual_NO);
  // dx = dy W, or dx += dy W
  void linear_backward_input(Operand dx_NI, Operand dy_NO, Operand weight_OI);
  void linear_backward_input_accumulate(Operand dx_NI, Operand dy_NO, Operand weight_OI);
  // dweight += dy' x, dbias += the column sums of dy; both fp32, either may be absent.
  void linear_backward_weight(Operand dweight_OI, Operand dbias_O, Operand dy_NO, Operand x_NI);

  // From here until take_choices(), products are timed by each algorithm that cuBLASLt proposes at
  // their first use. A product that is added to in place is not exact then.
  void time_algorithms();
  // The same of layers with LoRA: from here on lora_way() leaves those that are new to be timed.
  void time_lora() { timing_lora_ = true; }
  // How a layer and its LoRA are computed; nothing: both ways are to be timed, for choose_lora().
  std::optional<LoraWay> lora_way(const LoraKey& key) { return way_of(lora_ways_, key); }
  std::optional<LoraWay> lora_way(const LoraDownKey& key) { return way_of(lora_down_ways_, key); }
  template <typename Key>
  void choose_lora(const Key& key, LoraWay way) {
    choices_.lora.choose(key, way);
  }
  // What was chosen so far.
  const ProductChoices& choices() const { return choices_; }
  // From here on products are computed by these algorithms: one of other rows by that of the
  // nearest rows, one that is not among them by cuBLASLt's first. Layers with LoRA that are not
  // among them are computed apart from it.
  void take_choices(ProductChoices choices);

  // How many different products were planned; a step with the shapes of an earlier one plans none.
  int64_t plans_made() const;

 private:
  class Plans;
  ProductSite site() const;
  void multiply(const Product& product);
  template <typename Key>
  std::optional<LoraWay> way_of(std::map<Key, LoraWay>& ways, const Key& key);
  std::unique_ptr<ProductPlan> make_plan(const ProductKey& key, const Product& product);

  cudaStream_t stream_;
  size_t workspace_bytes_;
  void* workspace_ = nullptr;
  cublasLtHandle_t handle_ = nullptr;
  std::unique_ptr<Plans> plans_;
  ProductChoices choices_;
  // Of those that were asked for.
  std::map<LoraKey, LoraWay> lora_ways_;
  std::map<LoraDownKey, LoraWay> lora_down_ways_;
  bool timing_ = false, timing_lora_ = false;
};

}  // namespace facet::cuda
