// 16-bit storage over a backend that computes in fp32: bf16 and fp16 operands are widened into fp32
// panels, the backend below works on the panels, and every output is rounded once on its way back.
// It owns no arithmetic: the conversions are copy() of the backend below, and operands that are
// fp32 already pass through.
//
// Panels are scratch, and their size is measured, not grown in a step: over a NullBackend and with
// measuring arenas, panel_bytes() is what the same calls will need.
//
//   NullBackend nothing;
//   HalfStorage measured(nothing);
//   ... run the step on `measured` ...
//   HalfStorage ops(cpu, measured.panel_bytes());
//
// A panel is never as large as a matrix of the model: products go through a block of outputs at a
// time, token-wise operators through a block of rows, which a cache holds. A panel is memory of its
// own, so operands may be each other's memory wherever ops.h allows it.
#pragma once

#include <initializer_list>

#include "device/arena.h"
#include "ops/ops.h"

namespace facet {

class HalfStorage final : public Backend {
 public:
  explicit HalfStorage(Backend& below);  // measures
  // Computes, with panels of so many bytes in one call.
  HalfStorage(Backend& below, int64_t panel_bytes);

  MemoryResource& memory() override { return below_.memory(); }

  int64_t panel_bytes() const { return panels_.peak(); }  // the most that a call took

  void linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias, Tensor residual) override;
  void linear_backward_input(Tensor dx, Tensor dy, Tensor weight) override;
  void linear_backward_input_accumulate(Tensor dx, Tensor dy, Tensor weight) override;
  void linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dy, Tensor x) override;
  void lora_forward_accumulate(Tensor y, Tensor u, Tensor x, Tensor right, Tensor left,
                               float scale) override;
  void lora_backward_accumulate(Tensor dx, Tensor dright, Tensor dleft, Tensor du, Tensor dy,
                                Tensor x, Tensor u, Tensor right, Tensor left,
                                float scale) override;
  void rms_norm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, float eps) override;
  void rms_norm_backward(Tensor dx, Tensor dweight, Tensor dy, Tensor x, Tensor weight, Tensor rstd,
                         Tensor dresidual) override;
  void layer_norm_forward(Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor weight, Tensor bias,
                          float eps) override;
  void layer_norm_backward(Tensor dx, Tensor dweight, Tensor dbias, Tensor dy, Tensor x,
                           Tensor weight, Tensor mean, Tensor rstd, Tensor dresidual) override;
  void swiglu_forward(Tensor act, Tensor gate_up) override;
  void swiglu_backward(Tensor dgate_up, Tensor dact, Tensor gate_up) override;
  void gelu_forward(Tensor y, Tensor x, Activation activation) override;
  void gelu_backward(Tensor dx, Tensor dy, Tensor x, Activation activation) override;
  void rope_forward(Tensor x, Tensor cos, Tensor sin, int64_t heads) override;
  void rope_backward(Tensor dx, Tensor cos, Tensor sin, int64_t heads) override;
  void attention_forward(Tensor out, Tensor lse, Tensor out_image, Tensor q, Tensor k, Tensor v,
                         const AttentionPlan& plan, int64_t heads, int64_t kv_heads,
                         float scale) override;
  void attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q, Tensor k,
                          Tensor v, Tensor out, Tensor out_image, Tensor lse,
                          const AttentionPlan& plan, int64_t heads, int64_t kv_heads,
                          float scale) override;
  void splice_forward(Tensor x, Tensor embed, Tensor image, Tensor source) override;
  void splice_backward(Tensor dembed, Tensor dimage, Tensor dx, Tensor source) override;
  void gather_rows_forward(Tensor y, Tensor x, Tensor index) override;
  void gather_rows_backward(Tensor dx, Tensor dy, Tensor index) override;
  void repeat_rows_forward(Tensor y, Tensor x, int64_t copies) override;
  void repeat_rows_backward(Tensor dx, Tensor dy, int64_t copies) override;
  void add_repeated_rows_forward(Tensor y, Tensor x, Tensor rows) override;
  void add_repeated_rows_backward(Tensor drows, Tensor dy) override;
  void patch_rows_forward(Tensor patches, Tensor pixels, int64_t patch_size) override;
  void vision_embed_forward(Tensor x, Tensor patch, Tensor class_embedding,
                            Tensor position) override;
  void vision_embed_backward(Tensor dpatch, Tensor dclass, Tensor dposition, Tensor dx) override;
  void resize_positions_forward(Tensor out, Tensor in) override;
  void resize_positions_backward_accumulate(Tensor din, Tensor dout) override;
  void cross_entropy_forward(Tensor row_loss, Tensor logits, Tensor labels) override;
  void cross_entropy_forward_backward(Tensor row_loss, Tensor logits, Tensor labels,
                                      float gradient_scale) override;
  void fill(Tensor x, float value) override;
  void copy(Tensor y, Tensor x) override;
  void add_accumulate(Tensor y, Tensor x) override;
  void sum_rows(Tensor y, Tensor x) override;
  void sum_rows_accumulate(Tensor y, Tensor x) override;
  void copy_from_host(Tensor y, const void* host) override;
  void copy_to_host(void* host, Tensor x) override;
  double sum(Tensor x) override;
  void adamw_step(Tensor param, Tensor exp_avg, Tensor exp_avg_sq, Tensor copy, Tensor grad,
                  const AdamWStep& step) override;
  GradientStatistics gradient_statistics(Tensor grad) override;

 private:
  class Call;
  struct Block;
  // body(call, block) for blocks of the operands' rows.
  template <typename Body>
  void in_row_blocks(std::initializer_list<Tensor> operands, const Body& body);
  // The same for blocks of the outputs O of a weight (O,I).
  template <typename Body>
  void in_output_blocks(std::initializer_list<Tensor> operands, int64_t outputs, int64_t inputs,
                        const Body& body);
  template <typename Body>
  void in_blocks(int64_t total, int64_t step, const Body& body);

  Backend& below_;
  Arena panels_;
};

}  // namespace facet
