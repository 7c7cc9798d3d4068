// The operators, listed once: OPERATOR(result, name, parameters...). What each computes stands at
// the public functions of Backend in ops/ops.h. A list of operators is
//
//   FACET_OPERATORS(FACET_OVERRIDE_OPERATOR)
//
// in the class of a backend: it declares do_<name> for each, and one that is not defined is an
// undefined reference with that name. A backend without the list is abstract and cannot be made.
#pragma once

#define FACET_OPERATORS(OPERATOR)                                                                  \
  OPERATOR(void, linear_forward, Tensor y, Tensor x, Tensor weight, Tensor bias, Tensor residual)  \
  OPERATOR(void, linear_few_rows_forward, Tensor y, Tensor x, Tensor weight, Tensor bias,          \
           Tensor residual)                                                                        \
  OPERATOR(void, linear_backward_input, Tensor dx, Tensor dy, Tensor weight)                       \
  OPERATOR(void, linear_backward_input_accumulate, Tensor dx, Tensor dy, Tensor weight)            \
  OPERATOR(void, linear_backward_weight, Tensor dweight, Tensor dbias, Tensor dy, Tensor x)        \
  OPERATOR(void, lora_forward_accumulate, Tensor y, Tensor u, Tensor x, Tensor right, Tensor left, \
           float scale)                                                                            \
  OPERATOR(void, lora_backward_input_accumulate, Tensor dx, Tensor dleft, Tensor du, Tensor dy,    \
           Tensor u, Tensor right, Tensor left, float scale)                                       \
  OPERATOR(void, lora_backward_right, Tensor x, std::span<const LoraPart> parts)                   \
  OPERATOR(void, lora_linear_forward, Tensor y, Tensor x, Tensor weight, Tensor bias,              \
           Tensor residual, std::span<const LoraPart> parts, float scale,                          \
           const Rotation& rotation, int64_t rotated_heads)                                        \
  OPERATOR(void, lora_linear_backward_input, Tensor dx, Tensor dy, Tensor weight,                  \
           std::span<const LoraPart> parts, float scale)                                           \
  OPERATOR(void, dora_row_norms, Tensor norm, Tensor weight, Tensor right, Tensor left,            \
           float scale)                                                                            \
  OPERATOR(void, dora_forward, Tensor y, Tensor z, Tensor magnitude, Tensor norm, Tensor bias,     \
           Tensor residual)                                                                        \
  OPERATOR(void, dora_backward, Tensor dz, Tensor dmagnitude, Tensor dy, Tensor z,                 \
           Tensor magnitude, Tensor norm)                                                          \
  OPERATOR(void, rms_norm_forward, Tensor y, Tensor rstd, Tensor x, Tensor weight, float eps,      \
           std::span<const LoraDown> downs)                                                        \
  OPERATOR(void, rms_norm_backward, Tensor dx, Tensor dweight, Tensor y, Tensor dy, Tensor x,      \
           Tensor weight, Tensor rstd, Tensor dresidual)                                           \
  OPERATOR(void, layer_norm_forward, Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor weight,  \
           Tensor bias, float eps)                                                                 \
  OPERATOR(void, layer_norm_backward, Tensor dx, Tensor dweight, Tensor dbias, Tensor dy,          \
           Tensor x, Tensor weight, Tensor mean, Tensor rstd, Tensor dresidual)                    \
  OPERATOR(void, swiglu_forward, Tensor act, Tensor gate_up, std::span<const LoraDown> downs)      \
  OPERATOR(void, swiglu_backward, Tensor dgate_up, Tensor act, Tensor dact, Tensor gate_up)        \
  OPERATOR(void, gelu_forward, Tensor y, Tensor x, Activation activation)                          \
  OPERATOR(void, gelu_backward, Tensor dx, Tensor dy, Tensor x, Activation activation)             \
  OPERATOR(void, rope_forward, Tensor x, Tensor cos, Tensor sin, int64_t heads)                    \
  OPERATOR(void, rope_backward, Tensor dx, Tensor cos, Tensor sin, int64_t heads)                  \
  OPERATOR(void, attention_forward, Tensor out, Tensor lse, Tensor out_part, Tensor q, Tensor k,   \
           Tensor v, const AttentionPlan& plan, int64_t heads, int64_t kv_heads, float scale)      \
  OPERATOR(void, attention_backward, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q,       \
           Tensor k, Tensor v, Tensor out, Tensor out_part, Tensor lse,                            \
           const Rotation& q_rotation, const Rotation& k_rotation, const AttentionPlan& plan,      \
           int64_t heads, int64_t kv_heads, float scale)                                           \
  OPERATOR(void, splice_forward, Tensor x, Tensor embed, Tensor image, Tensor source)              \
  OPERATOR(void, splice_backward, Tensor dembed, Tensor dimage, Tensor dx, Tensor source)          \
  OPERATOR(void, gather_rows_forward, Tensor y, Tensor x, Tensor index)                            \
  OPERATOR(void, gather_rows_backward, Tensor dx, Tensor dy, Tensor index)                         \
  OPERATOR(void, repeat_rows_forward, Tensor y, Tensor x, int64_t copies)                          \
  OPERATOR(void, repeat_rows_backward, Tensor dx, Tensor dy, int64_t copies)                       \
  OPERATOR(void, add_repeated_rows_forward, Tensor y, Tensor x, Tensor rows)                       \
  OPERATOR(void, add_repeated_rows_backward, Tensor drows, Tensor dy)                              \
  OPERATOR(void, patch_rows_forward, Tensor patches, Tensor pixels, int64_t patch_size)            \
  OPERATOR(void, vision_embed_forward, Tensor x, Tensor patch, Tensor class_embedding,             \
           Tensor position)                                                                        \
  OPERATOR(void, vision_embed_backward, Tensor dpatch, Tensor dclass, Tensor dposition, Tensor dx) \
  OPERATOR(void, resize_positions_forward, Tensor out, Tensor in)                                  \
  OPERATOR(void, resize_positions_backward_accumulate, Tensor din, Tensor dout)                    \
  OPERATOR(void, cross_entropy_forward, Tensor row_loss, Tensor logits, Tensor labels)             \
  OPERATOR(void, cross_entropy_forward_backward, Tensor row_loss, Tensor logits, Tensor labels,    \
           float gradient_scale)                                                                   \
  OPERATOR(void, fill, Tensor x, float value)                                                      \
  OPERATOR(void, copy, Tensor y, Tensor x)                                                         \
  OPERATOR(void, add_accumulate, Tensor y, Tensor x)                                               \
  OPERATOR(void, sum_rows, Tensor y, Tensor x)                                                     \
  OPERATOR(void, sum_rows_accumulate, Tensor y, Tensor x)                                          \
  OPERATOR(void, copy_from_host, Tensor y, const void* host)                                       \
  OPERATOR(void, copy_to_host, void* host, Tensor x)                                               \
  OPERATOR(double, sum, Tensor x)                                                                  \
  OPERATOR(void, adamw_step, Tensor param, Tensor exp_avg, Tensor exp_avg_sq, Tensor copy,         \
           Tensor grad, const AdamWStep& step)                                                     \
  OPERATOR(void, gradient_statistics, std::span<GradientStatistics> statistics,                    \
           std::span<const Tensor> grads)

// What FACET_OPERATORS is given: the functions that Backend demands, and those of a backend.
#define FACET_DEMAND_OPERATOR(result, name, ...) virtual result do_##name(__VA_ARGS__) = 0;
#define FACET_OVERRIDE_OPERATOR(result, name, ...) result do_##name(__VA_ARGS__) override;
