#include "ops/half_storage.h"

#include "ops/half_storage_call.h"

namespace facet {

HalfStorage::HalfStorage(Backend& below) : below_(below), panels_("16-bit panels") {}

HalfStorage::HalfStorage(Backend& below, int64_t panel_bytes)
    : below_(below), panels_("16-bit panels", panel_bytes) {}

// ---- products, a block of outputs at a time

void HalfStorage::do_linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias,
                                    Tensor residual) {
  Call whole(*this);
  const Tensor x_NI = whole.in(x);
  in_output_blocks({y, x, weight}, y.cols(), x.cols(), [&](Call& call, const Block& at) {
    below_.linear_forward(call.out(at.columns(y)), x_NI, call.in(at.rows(weight)),
                          call.in(at.elements(bias)), call.in(at.columns(residual)));
  });
}

// Here the backend below reads the weight as it is.
void HalfStorage::do_linear_few_rows_forward(Tensor y, Tensor x, Tensor weight, Tensor bias,
                                             Tensor residual) {
  Call call(*this);
  below_.linear_few_rows_forward(call.out(y), call.in(x), weight, call.in(bias), call.in(residual));
  call.finish();
}

void HalfStorage::do_linear_backward_input(Tensor dx, Tensor dy, Tensor weight) {
  Call whole(*this);
  const Tensor dx_NI = whole.out(dx);
  in_output_blocks(
      {dx, dy, weight}, weight.rows(), weight.cols(), [&](Call& call, const Block& at) {
        const Tensor dy_block = call.in(at.columns(dy)), weight_block = call.in(at.rows(weight));
        if (at.begin == 0)
          below_.linear_backward_input(dx_NI, dy_block, weight_block);
        else
          below_.linear_backward_input_accumulate(dx_NI, dy_block, weight_block);
      });
  whole.finish();
}

void HalfStorage::do_linear_backward_input_accumulate(Tensor dx, Tensor dy, Tensor weight) {
  Call whole(*this);
  const Tensor dx_NI = whole.in_out(dx);
  in_output_blocks({dx, dy, weight}, weight.rows(), weight.cols(),
                   [&](Call& call, const Block& at) {
                     below_.linear_backward_input_accumulate(dx_NI, call.in(at.columns(dy)),
                                                             call.in(at.rows(weight)));
                   });
  whole.finish();
}

void HalfStorage::do_linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dy, Tensor x) {
  Call whole(*this);
  const Tensor x_NI = dweight.defined() ? whole.in(x) : x;
  in_output_blocks({dy, x}, dy.cols(), x.cols(), [&](Call& call, const Block& at) {
    below_.linear_backward_weight(at.rows(dweight), at.elements(dbias), call.in(at.columns(dy)),
                                  x_NI);
  });
}

// As the operators that they consist of, whose outputs are each rounded. A u that is there is
// computed again: y gets it before it is rounded.
void HalfStorage::do_lora_linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias,
                                         Tensor residual, std::span<const LoraPart> parts,
                                         float scale, const Rotation& rotation,
                                         int64_t rotated_heads) {
  do_linear_forward(y, x, weight, bias, residual);
  for (const LoraPart& part : parts)
    do_lora_forward_accumulate(y.column_block(part.begin, part.left.cols()), part.u, x, part.right,
                               part.left, scale);
  turn_heads(y, rotation, rotated_heads);
}

void HalfStorage::do_lora_linear_backward_input(Tensor dx, Tensor dy, Tensor weight,
                                                std::span<const LoraPart> parts, float scale) {
  if (dx.defined()) do_linear_backward_input(dx, dy, weight);
  for (const LoraPart& part : parts)
    do_lora_backward_input_accumulate(dx, part.dleft, part.du,
                                      dy.column_block(part.begin, part.left.cols()), part.u,
                                      part.right, part.left, scale);
}

void HalfStorage::do_dora_row_norms(Tensor norm, Tensor weight, Tensor right, Tensor left,
                                    float scale) {
  Call whole(*this);
  const Tensor right_Ir = whole.in(right);
  in_output_blocks({weight}, weight.rows(), weight.cols(), [&](Call& call, const Block& at) {
    below_.dora_row_norms(at.elements(norm), call.in(at.rows(weight)), right_Ir,
                          call.in(at.columns(left)), scale);
  });
}

// ---- what works on every row for itself

void HalfStorage::do_dora_forward(Tensor y, Tensor z, Tensor magnitude, Tensor norm, Tensor bias,
                                  Tensor residual) {
  in_row_blocks({y, z, residual}, [&](Call& call, const Block& at) {
    below_.dora_forward(call.out(at.rows(y)), call.in(at.rows(z)), call.in(magnitude), norm,
                        call.in(bias), call.in(at.rows(residual)));
  });
}

void HalfStorage::do_dora_backward(Tensor dz, Tensor dmagnitude, Tensor dy, Tensor z,
                                   Tensor magnitude, Tensor norm) {
  in_row_blocks({dz, dy, z}, [&](Call& call, const Block& at) {
    below_.dora_backward(call.out(at.rows(dz)), dmagnitude, call.in(at.rows(dy)),
                         call.in(at.rows(z)), call.in(magnitude), norm);
  });
}

void HalfStorage::do_lora_forward_accumulate(Tensor y, Tensor u, Tensor x, Tensor right,
                                             Tensor left, float scale) {
  in_row_blocks({y, u, x}, [&](Call& call, const Block& at) {
    below_.lora_forward_accumulate(call.in_out(at.rows(y)), call.out(at.rows(u)),
                                   call.in(at.rows(x)), call.in(right), call.in(left), scale);
  });
}

void HalfStorage::do_lora_backward_input_accumulate(Tensor dx, Tensor dleft, Tensor du, Tensor dy,
                                                    Tensor u, Tensor right, Tensor left,
                                                    float scale) {
  in_row_blocks({dy, dx, u}, [&](Call& call, const Block& at) {
    below_.lora_backward_input_accumulate(call.in_out(at.rows(dx)), dleft, at.rows(du),
                                          call.in(at.rows(dy)), call.in(at.rows(u)), call.in(right),
                                          call.in(left), scale);
  });
}

void HalfStorage::do_lora_backward_right(Tensor x, std::span<const LoraPart> parts) {
  for (const LoraPart& part : parts) {
    if (!part.dright.defined()) continue;
    Call whole(*this);
    LoraPart some{.u = {}, .right = whole.in(part.right), .left = {}, .dright = part.dright};
    in_row_blocks({x}, [&](Call& call, const Block& at) {
      some.du = at.rows(part.du);
      below_.lora_backward_right(call.in(at.rows(x)), {&some, 1});
    });
  }
}

// u = x R is what a gradient dx = dy W is.
void HalfStorage::compute_downs(const Tensor& x, std::span<const LoraDown> downs) {
  for (const auto& [u, right] : downs) do_linear_backward_input(u, x, right);
}

void HalfStorage::do_rms_norm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, float eps,
                                      std::span<const LoraDown> downs) {
  in_row_blocks({y, x}, [&](Call& call, const Block& at) {
    below_.rms_norm_forward(call.out(at.rows(y)), at.elements(rstd), call.in(at.rows(x)),
                            call.in(weight), eps);
  });
  compute_downs(y, downs);
}

// The blocks, and so the bits of dweight, are the same with y as without.
void HalfStorage::do_rms_norm_backward(Tensor dx, Tensor dweight, Tensor y, Tensor dy, Tensor x,
                                       Tensor weight, Tensor rstd, Tensor dresidual) {
  in_row_blocks({dx, dy, x, dresidual}, [&](Call& call, const Block& at) {
    below_.rms_norm_backward(call.out(at.rows(dx)), dweight, call.out(at.rows(y)),
                             call.in(at.rows(dy)), call.in(at.rows(x)), call.in(weight),
                             at.elements(rstd), call.in(at.rows(dresidual)));
  });
}

void HalfStorage::do_layer_norm_forward(Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor weight,
                                        Tensor bias, float eps) {
  in_row_blocks({y, x}, [&](Call& call, const Block& at) {
    below_.layer_norm_forward(call.out(at.rows(y)), at.elements(mean), at.elements(rstd),
                              call.in(at.rows(x)), call.in(weight), call.in(bias), eps);
  });
}

void HalfStorage::do_layer_norm_backward(Tensor dx, Tensor dweight, Tensor dbias, Tensor dy,
                                         Tensor x, Tensor weight, Tensor mean, Tensor rstd,
                                         Tensor dresidual) {
  in_row_blocks({dx, dy, x, dresidual}, [&](Call& call, const Block& at) {
    below_.layer_norm_backward(call.out(at.rows(dx)), dweight, dbias, call.in(at.rows(dy)),
                               call.in(at.rows(x)), call.in(weight), at.elements(mean),
                               at.elements(rstd), call.in(at.rows(dresidual)));
  });
}

void HalfStorage::do_swiglu_forward(Tensor act, Tensor gate_up, std::span<const LoraDown> downs) {
  in_row_blocks({act, gate_up}, [&](Call& call, const Block& at) {
    below_.swiglu_forward(call.out(at.rows(act)), call.in(at.rows(gate_up)));
  });
  compute_downs(act, downs);
}

void HalfStorage::do_swiglu_backward(Tensor dgate_up, Tensor act, Tensor dact, Tensor gate_up) {
  in_row_blocks({dgate_up, act, dact, gate_up}, [&](Call& call, const Block& at) {
    below_.swiglu_backward(call.out(at.rows(dgate_up)), call.out(at.rows(act)),
                           call.in(at.rows(dact)), call.in(at.rows(gate_up)));
  });
}

void HalfStorage::do_gelu_forward(Tensor y, Tensor x, Activation activation) {
  in_row_blocks({y, x}, [&](Call& call, const Block& at) {
    below_.gelu_forward(call.out(at.rows(y)), call.in(at.rows(x)), activation);
  });
}

void HalfStorage::do_gelu_backward(Tensor dx, Tensor dy, Tensor x, Activation activation) {
  in_row_blocks({dx, dy, x}, [&](Call& call, const Block& at) {
    below_.gelu_backward(call.out(at.rows(dx)), call.in(at.rows(dy)), call.in(at.rows(x)),
                         activation);
  });
}

void HalfStorage::do_rope_forward(Tensor x, Tensor cos, Tensor sin, int64_t heads) {
  in_row_blocks({x}, [&](Call& call, const Block& at) {
    below_.rope_forward(call.in_out(at.rows(x)), at.rows(cos), at.rows(sin), heads);
  });
}

void HalfStorage::do_rope_backward(Tensor dx, Tensor cos, Tensor sin, int64_t heads) {
  in_row_blocks({dx}, [&](Call& call, const Block& at) {
    below_.rope_backward(call.in_out(at.rows(dx)), at.rows(cos), at.rows(sin), heads);
  });
}

void HalfStorage::do_cross_entropy_forward(Tensor row_loss, Tensor logits, Tensor labels) {
  in_row_blocks({logits}, [&](Call& call, const Block& at) {
    below_.cross_entropy_forward(at.elements(row_loss), call.in(at.rows(logits)),
                                 at.elements(labels));
  });
}

void HalfStorage::do_cross_entropy_forward_backward(Tensor row_loss, Tensor logits, Tensor labels,
                                                    float gradient_scale) {
  in_row_blocks({logits}, [&](Call& call, const Block& at) {
    below_.cross_entropy_forward_backward(at.elements(row_loss), call.in_out(at.rows(logits)),
                                          at.elements(labels), gradient_scale);
  });
}

void HalfStorage::do_fill(Tensor x, float value) {
  in_row_blocks({x},
                [&](Call& call, const Block& at) { below_.fill(call.out(at.rows(x)), value); });
}

void HalfStorage::do_add_accumulate(Tensor y, Tensor x) {
  in_row_blocks({y, x}, [&](Call& call, const Block& at) {
    below_.add_accumulate(call.in_out(at.rows(y)), call.in(at.rows(x)));
  });
}

// ---- what needs all rows at once

// The sums are fp32, and the rows are read as they are.
void HalfStorage::do_sum_rows(Tensor y, Tensor x) { below_.sum_rows(y, x); }

void HalfStorage::do_sum_rows_accumulate(Tensor y, Tensor x) { below_.sum_rows_accumulate(y, x); }

void HalfStorage::do_attention_forward(Tensor out, Tensor lse, Tensor out_part, Tensor q, Tensor k,
                                       Tensor v, const AttentionPlan& plan, int64_t heads,
                                       int64_t kv_heads, float scale) {
  Call call(*this);
  below_.attention_forward(call.out(out), lse, call.out(out_part), call.in(q), k, v, plan, heads,
                           kv_heads, scale);
  call.finish();
}

void HalfStorage::do_attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q,
                                        Tensor k, Tensor v, Tensor out, Tensor out_part, Tensor lse,
                                        const Rotation& q_rotation, const Rotation& k_rotation,
                                        const AttentionPlan& plan, int64_t heads, int64_t kv_heads,
                                        float scale) {
  {
    Call call(*this);
    below_.attention_backward(call.out(dq), call.out(dk), call.out(dv), call.in(dout), call.in(q),
                              call.in(k), call.in(v), call.in(out), call.in(out_part), lse,
                              Rotation(), Rotation(), plan, heads, kv_heads, scale);
    call.finish();
  }
  turn_back(dq, dk, q_rotation, k_rotation, heads, kv_heads);
}

void HalfStorage::do_splice_backward(Tensor dembed, Tensor dimage, Tensor dx, Tensor source) {
  Call call(*this);
  below_.splice_backward(dembed, call.out(dimage), call.in(dx), source);
  call.finish();
}

void HalfStorage::do_repeat_rows_backward(Tensor dx, Tensor dy, int64_t copies) {
  Call call(*this);
  below_.repeat_rows_backward(call.out(dx), call.in(dy), copies);
  call.finish();
}

void HalfStorage::do_add_repeated_rows_forward(Tensor y, Tensor x, Tensor rows) {
  Call call(*this);
  below_.add_repeated_rows_forward(call.out(y), call.in(x), call.in(rows));
  call.finish();
}

void HalfStorage::do_add_repeated_rows_backward(Tensor drows, Tensor dy) {
  Call call(*this);
  below_.add_repeated_rows_backward(drows, call.in(dy));
}

void HalfStorage::do_patch_rows_forward(Tensor patches, Tensor pixels, int64_t patch_size) {
  Call call(*this);
  below_.patch_rows_forward(call.out(patches), pixels, patch_size);
  call.finish();
}

void HalfStorage::do_vision_embed_forward(Tensor x, Tensor patch, Tensor class_embedding,
                                          Tensor position) {
  Call call(*this);
  below_.vision_embed_forward(call.out(x), call.in(patch), call.in(class_embedding),
                              call.in(position));
  call.finish();
}

void HalfStorage::do_vision_embed_backward(Tensor dpatch, Tensor dclass, Tensor dposition,
                                           Tensor dx) {
  Call call(*this);
  below_.vision_embed_backward(call.out(dpatch), dclass, dposition, call.in(dx));
  call.finish();
}

void HalfStorage::do_resize_positions_forward(Tensor out, Tensor in) {
  Call call(*this);
  below_.resize_positions_forward(call.out(out), call.in(in));
  call.finish();
}

double HalfStorage::do_sum(Tensor x) {
  Call call(*this);
  return below_.sum(call.in(x));
}

// ---- what needs no panel: words are moved, or everything is fp32

void HalfStorage::do_splice_forward(Tensor x, Tensor embed, Tensor image, Tensor source) {
  below_.splice_forward(x, embed, image, source);
}

void HalfStorage::do_gather_rows_forward(Tensor y, Tensor x, Tensor index) {
  below_.gather_rows_forward(y, x, index);
}

void HalfStorage::do_gather_rows_backward(Tensor dx, Tensor dy, Tensor index) {
  below_.gather_rows_backward(dx, dy, index);
}

void HalfStorage::do_repeat_rows_forward(Tensor y, Tensor x, int64_t copies) {
  below_.repeat_rows_forward(y, x, copies);
}

void HalfStorage::do_copy(Tensor y, Tensor x) { below_.copy(y, x); }

void HalfStorage::do_copy_from_host(Tensor y, const void* host) { below_.copy_from_host(y, host); }

void HalfStorage::do_copy_to_host(void* host, Tensor x) { below_.copy_to_host(host, x); }

void HalfStorage::do_resize_positions_backward_accumulate(Tensor din, Tensor dout) {
  below_.resize_positions_backward_accumulate(din, dout);
}

void HalfStorage::do_adamw_step(Tensor param, Tensor exp_avg, Tensor exp_avg_sq, Tensor copy,
                                Tensor grad, const AdamWStep& step) {
  below_.adamw_step(param, exp_avg, exp_avg_sq, copy, grad, step);
}

void HalfStorage::do_gradient_statistics(std::span<GradientStatistics> statistics,
                                         std::span<const Tensor> grads) {
  below_.gradient_statistics(statistics, grads);
}

}  // namespace facet
