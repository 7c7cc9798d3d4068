// A backend that computes nothing: every operator is counted and returns at once, and touches no
// memory. With measuring arenas it finds out how much memory and how many operations a step takes
// before any is allocated.
#pragma once

#include "ops/ops.h"

namespace facet {

class NullBackend : public Backend {
 public:
  void linear_forward(Tensor y, Tensor x, Tensor, Tensor, Tensor) override {
    count_linear(x.rows(), x.cols(), y.cols());
  }
  void linear_backward_input(Tensor, Tensor dy, Tensor weight) override {
    count_linear(dy.rows(), weight.cols(), weight.rows());
  }
  void linear_backward_input_accumulate(Tensor, Tensor dy, Tensor weight) override {
    count_linear(dy.rows(), weight.cols(), weight.rows());
  }
  void linear_backward_weight(Tensor dweight, Tensor, Tensor dy, Tensor x) override {
    count_linear(dy.rows(), x.cols(), dweight.defined() ? dy.cols() : 0);
  }
  void lora_forward_accumulate(Tensor, Tensor, Tensor x, Tensor right, Tensor left,
                               float) override {
    count_lora_forward(x.rows(), right, left);
  }
  void lora_backward_accumulate(Tensor dx, Tensor dright, Tensor dleft, Tensor, Tensor, Tensor x,
                                Tensor, Tensor right, Tensor left, float) override {
    count_lora_backward(x.rows(), right, left, dx, dright, dleft);
  }
  void rms_norm_forward(Tensor, Tensor, Tensor, Tensor, float) override { count_call(); }
  void rms_norm_backward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor) override {
    count_call();
  }
  void layer_norm_forward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, float) override {
    count_call();
  }
  void layer_norm_backward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                           Tensor) override {
    count_call();
  }
  void swiglu_forward(Tensor, Tensor) override { count_call(); }
  void swiglu_backward(Tensor, Tensor, Tensor) override { count_call(); }
  void gelu_forward(Tensor, Tensor, Activation) override { count_call(); }
  void gelu_backward(Tensor, Tensor, Tensor, Activation) override { count_call(); }
  void rope_forward(Tensor, Tensor, Tensor, int64_t) override { count_call(); }
  void rope_backward(Tensor, Tensor, Tensor, int64_t) override { count_call(); }
  void attention_forward(Tensor, Tensor, Tensor, Tensor q, Tensor, Tensor,
                         const AttentionPlan& plan, int64_t heads, int64_t, float) override {
    count_attention_forward(plan, q, heads);
  }
  void attention_backward(Tensor, Tensor, Tensor, Tensor, Tensor q, Tensor, Tensor, Tensor, Tensor,
                          Tensor, const AttentionPlan& plan, int64_t heads, int64_t,
                          float) override {
    count_attention_backward(plan, q, heads);
  }
  void splice_forward(Tensor, Tensor, Tensor, Tensor) override { count_call(); }
  void splice_backward(Tensor, Tensor, Tensor, Tensor) override { count_call(); }
  void gather_rows_forward(Tensor, Tensor, Tensor) override { count_call(); }
  void gather_rows_backward(Tensor, Tensor, Tensor) override { count_call(); }
  void repeat_rows_forward(Tensor, Tensor, int64_t) override { count_call(); }
  void repeat_rows_backward(Tensor, Tensor, int64_t) override { count_call(); }
  void add_repeated_rows_forward(Tensor, Tensor, Tensor) override { count_call(); }
  void add_repeated_rows_backward(Tensor, Tensor) override { count_call(); }
  void patch_rows_forward(Tensor, Tensor, int64_t) override { count_call(); }
  void vision_embed_forward(Tensor, Tensor, Tensor, Tensor) override { count_call(); }
  void vision_embed_backward(Tensor, Tensor, Tensor, Tensor) override { count_call(); }
  void resize_positions_forward(Tensor, Tensor) override { count_call(); }
  void resize_positions_backward_accumulate(Tensor, Tensor) override { count_call(); }
  void cross_entropy_forward(Tensor, Tensor, Tensor) override { count_call(); }
  void cross_entropy_forward_backward(Tensor, Tensor, Tensor, float) override { count_call(); }
  void fill(Tensor, float) override { count_call(); }
  void copy(Tensor, Tensor) override { count_call(); }
  void add_accumulate(Tensor, Tensor) override { count_call(); }
  void sum_rows(Tensor, Tensor) override { count_call(); }
  void sum_rows_accumulate(Tensor, Tensor) override { count_call(); }
  void copy_from_host(Tensor, const void*) override { count_call(); }
  void copy_to_host(void*, Tensor) override { count_call(); }
  double sum(Tensor) override {
    count_call();
    return 0;
  }
  void adamw_step(Tensor, Tensor, Tensor, Tensor, Tensor, const AdamWStep&) override {
    count_call();
  }
  GradientStatistics gradient_statistics(Tensor) override {
    count_call();
    return {};
  }
};

}  // namespace facet
