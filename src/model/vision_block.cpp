#include "model/vision_block.h"

#include <cmath>

namespace facet {

VisionBlock::VisionBlock(ParamTable& table, const std::string& root, const std::string& path,
                         const VisionConfig& config, const LoraConfig& lora, const Start& start)
    : width_(config.hidden_size),
      mlp_width_(config.intermediate_size),
      heads_(config.num_attention_heads),
      activation_(config.hidden_act),
      scale_(static_cast<float>(1.0 / std::sqrt(static_cast<double>(width_ / heads_)))),
      norm1_(table, root + path + "layer_norm1", width_, config.layer_norm_eps, start.norm_weight,
             start.norm_bias),
      qkv_(table, root,
           {{path + "self_attn.q_proj", width_},
            {path + "self_attn.k_proj", width_},
            {path + "self_attn.v_proj", width_}},
           width_, PackedLinear::Bias::kPresent, lora, start.linear, start.linear),
      out_(table, root, {{path + "self_attn.out_proj", width_}}, width_,
           PackedLinear::Bias::kPresent, lora, start.linear, start.linear),
      norm2_(table, root + path + "layer_norm2", width_, config.layer_norm_eps, start.norm_weight,
             start.norm_bias),
      fc1_(table, root, {{path + "mlp.fc1", mlp_width_}}, width_, PackedLinear::Bias::kPresent,
           lora, start.linear, start.linear),
      fc2_(table, root, {{path + "mlp.fc2", width_}}, mlp_width_, PackedLinear::Bias::kPresent,
           lora, start.linear, start.linear) {}

void VisionBlock::forward(Context& ctx, Tensor y, Tensor x, const AttentionPlan& plan, Saved& saved,
                          Keep keep) const {
  const Arena::Mark mark = ctx.arena.mark();
  const int64_t rows = x.rows();
  Saved& s = saved;
  s.normed1 = ctx.activation({rows, width_});
  norm1_.forward(ctx, s.normed1, x, &s.norm1);
  s.qkv = ctx.activation({rows, 3 * width_});
  qkv_.forward(ctx, s.qkv, s.normed1, Tensor(), &s.qkv_saved);
  s.attended = ctx.activation({rows, width_});
  s.lse = ctx.arena.tensor({1, heads_, rows});
  ctx.ops.attention_forward(s.attended, s.lse, Tensor(), s.qkv.column_block(0, width_),
                            s.qkv.column_block(width_, width_),
                            s.qkv.column_block(2 * width_, width_), plan, heads_, heads_, scale_);
  s.middle = ctx.activation({rows, width_});
  out_.forward(ctx, s.middle, s.attended, x, &s.out_saved);

  s.normed2 = ctx.activation({rows, width_});
  norm2_.forward(ctx, s.normed2, s.middle, &s.norm2);
  s.hidden = ctx.activation({rows, mlp_width_});
  fc1_.forward(ctx, s.hidden, s.normed2, Tensor(), &s.fc1_saved);
  s.activated = ctx.activation({rows, mlp_width_});
  ctx.ops.gelu_forward(s.activated, s.hidden, activation_);
  fc2_.forward(ctx, y, s.activated, s.middle, &s.fc2_saved);
  if (keep == Keep::kNothing) ctx.arena.release(mark);
}

void VisionBlock::backward(Context& ctx, Tensor dx, Tensor x, const AttentionPlan& plan,
                           const Saved& saved) const {
  mlp_backward(ctx, dx, saved);
  attention_backward(ctx, dx, x, plan, saved);
}

// dx: on entry the gradient of y, on return that of saved.middle.
void VisionBlock::mlp_backward(Context& ctx, Tensor dx, const Saved& saved) const {
  ArenaScope scope(ctx.arena);
  const Tensor dhidden = ctx.activation({dx.rows(), mlp_width_});
  fc2_.backward(ctx, dhidden, dx, saved.activated, saved.fc2_saved);
  ctx.ops.gelu_backward(dhidden, dhidden, saved.hidden, activation_);
  const Tensor dnormed = ctx.activation({dx.rows(), width_});
  fc1_.backward(ctx, dnormed, dhidden, saved.normed2, saved.fc1_saved);
  norm2_.backward(ctx, dx, dnormed, saved.middle, saved.norm2, dx);
}

// dx: on entry the gradient of saved.middle, on return that of x.
void VisionBlock::attention_backward(Context& ctx, Tensor dx, Tensor x, const AttentionPlan& plan,
                                     const Saved& saved) const {
  ArenaScope scope(ctx.arena);
  const int64_t rows = dx.rows();
  const Tensor dnormed = ctx.activation({rows, width_});
  const Tensor dattended = ctx.activation({rows, width_});
  const Tensor dqkv = ctx.activation({rows, 3 * width_});
  out_.backward(ctx, dattended, dx, saved.attended, saved.out_saved);
  const auto third = [&](const Tensor& qkv, int64_t part) {
    return qkv.column_block(part * width_, width_);
  };
  ctx.ops.attention_backward(third(dqkv, 0), third(dqkv, 1), third(dqkv, 2), dattended,
                             third(saved.qkv, 0), third(saved.qkv, 1), third(saved.qkv, 2),
                             saved.attended, Tensor(), saved.lse, plan, heads_, heads_, scale_);
  qkv_.backward(ctx, dnormed, dqkv, saved.normed1, saved.qkv_saved);
  norm1_.backward(ctx, dx, dnormed, x, saved.norm1, dx);
}

}  // namespace facet
