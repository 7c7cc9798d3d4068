// A backend that computes nothing: every operator returns at once and touches no memory. With
// measuring arenas it finds out how much memory a step takes before any is allocated.
#pragma once

#include "ops/ops.h"

namespace facet {

class NullBackend final : public Backend {
 public:
  void linear_forward(Tensor, Tensor, Tensor, Tensor, Tensor) override {}
  void linear_backward_input(Tensor, Tensor, Tensor) override {}
  void linear_backward_input_accumulate(Tensor, Tensor, Tensor) override {}
  void linear_backward_weight(Tensor, Tensor, Tensor, Tensor) override {}
  void lora_forward_accumulate(Tensor, Tensor, Tensor, Tensor, Tensor, float) override {}
  void lora_backward_accumulate(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                                Tensor, float) override {}
  void rms_norm_forward(Tensor, Tensor, Tensor, Tensor, float) override {}
  void rms_norm_backward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor) override {}
  void layer_norm_forward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, float) override {}
  void layer_norm_backward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                           Tensor) override {}
  void swiglu_forward(Tensor, Tensor) override {}
  void swiglu_backward(Tensor, Tensor, Tensor) override {}
  void gelu_forward(Tensor, Tensor, Activation) override {}
  void gelu_backward(Tensor, Tensor, Tensor, Activation) override {}
  void rope_forward(Tensor, Tensor, Tensor, int64_t) override {}
  void rope_backward(Tensor, Tensor, Tensor, int64_t) override {}
  void attention_forward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, const AttentionPlan&,
                         int64_t, int64_t, float) override {}
  void attention_backward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                          Tensor, const AttentionPlan&, int64_t, int64_t, float) override {}
  void splice_forward(Tensor, Tensor, Tensor, Tensor) override {}
  void splice_backward(Tensor, Tensor, Tensor, Tensor) override {}
  void gather_rows_forward(Tensor, Tensor, Tensor) override {}
  void gather_rows_backward(Tensor, Tensor, Tensor) override {}
  void repeat_rows_forward(Tensor, Tensor, int64_t) override {}
  void repeat_rows_backward(Tensor, Tensor, int64_t) override {}
  void add_repeated_rows_forward(Tensor, Tensor, Tensor) override {}
  void add_repeated_rows_backward(Tensor, Tensor) override {}
  void patch_rows_forward(Tensor, Tensor, int64_t) override {}
  void vision_embed_forward(Tensor, Tensor, Tensor, Tensor) override {}
  void vision_embed_backward(Tensor, Tensor, Tensor, Tensor) override {}
  void resize_positions_forward(Tensor, Tensor) override {}
  void resize_positions_backward_accumulate(Tensor, Tensor) override {}
  void cross_entropy_forward(Tensor, Tensor, Tensor) override {}
  void cross_entropy_forward_backward(Tensor, Tensor, Tensor, float) override {}
  void fill(Tensor, float) override {}
  void copy(Tensor, Tensor) override {}
  void add_accumulate(Tensor, Tensor) override {}
  void copy_from_host(Tensor, const void*) override {}
  void copy_to_host(void*, Tensor) override {}
  double sum(Tensor) override { return 0; }
  void adamw_step(Tensor, Tensor, Tensor, Tensor, const AdamWStep&) override {}
  GradientStatistics gradient_statistics(Tensor) override { return {}; }
};

}  // namespace facet
