#include "model/vision_block.h"

#include <cmath>

namespace facet {
namespace {

std::vector<PackedLinear::PartSpec> qkv_parts(const VisionConfig& config, const std::string& path) {
  const VisionTraits& traits = config.traits();
  const char* const(&names)[3] = traits.names->qkv;
  if (traits.qkv_by_head) return {{path + names[0], 3 * config.hidden_size}};
  std::vector<PackedLinear::PartSpec> parts;
  for (const char* name : names) parts.push_back({path + name, config.hidden_size});
  return parts;
}

}  // namespace

VisionBlock::VisionBlock(ParamTable& table, const std::string& root, const std::string& path,
                         const VisionConfig& config, const LoraConfig& lora, const Start& start)
    : width_(config.hidden_size),
      mlp_width_(config.intermediate_size),
      heads_(config.num_attention_heads),
      by_head_(config.traits().qkv_by_head),
      activation_(config.hidden_act),
      scale_(static_cast<float>(1.0 / std::sqrt(static_cast<double>(width_ / heads_)))),
      norm1_(table, root + path + config.traits().names->norm1, width_, config.layer_norm_eps,
             start.norm_weight, start.norm_bias),
      qkv_(table, root, qkv_parts(config, path), width_, PackedLinear::Bias::kPresent, lora,
           start.linear, start.linear),
      out_(table, root, {{path + config.traits().names->out, width_}}, width_,
           PackedLinear::Bias::kPresent, lora, start.linear, start.linear),
      norm2_(table, root + path + config.traits().names->norm2, width_, config.layer_norm_eps,
             start.norm_weight, start.norm_bias),
      fc1_(table, root, {{path + config.traits().names->fc1, mlp_width_}}, width_,
           PackedLinear::Bias::kPresent, lora, start.linear, start.linear),
      fc2_(table, root, {{path + config.traits().names->fc2, width_}}, mlp_width_,
           PackedLinear::Bias::kPresent, lora, start.linear, start.linear) {}

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
  {
    ArenaScope scope(ctx.arena);
    const Heads heads = heads_of(ctx, s.qkv);
    ctx.ops.attention_forward(s.attended, s.lse, Tensor(), heads.q, heads.k, heads.v, plan, heads_,
                              heads_, scale_);
  }
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

// Where heads lie one after the other: memory for them, else they are columns of qkv.
VisionBlock::Heads VisionBlock::make_heads(Context& ctx, const Tensor& qkv) const {
  if (!by_head_)
    return {qkv.column_block(0, width_), qkv.column_block(width_, width_),
            qkv.column_block(2 * width_, width_)};
  const auto all = [&] { return ctx.activation({qkv.rows(), width_}); };
  return {all(), all(), all()};
}

Tensor VisionBlock::part_by_head(const Tensor& qkv, int64_t part) const {
  const int64_t head = width_ / heads_;
  return qkv.view({qkv.rows() * heads_, 3 * head}).column_block(part * head, head);
}

// The heads of a forward's qkv.
VisionBlock::Heads VisionBlock::heads_of(Context& ctx, const Tensor& qkv) const {
  const Heads heads = make_heads(ctx, qkv);
  if (!by_head_) return heads;
  int64_t part = 0;
  for (const Tensor& all : {heads.q, heads.k, heads.v}) {
    const Tensor from = part_by_head(qkv, part++);
    ctx.ops.copy(all.view({from.rows(), from.cols()}), from);
  }
  return heads;
}

// The other way round: qkv from what make_heads() gave.
void VisionBlock::put_heads(Context& ctx, const Tensor& qkv, const Heads& heads) const {
  if (!by_head_) return;
  int64_t part = 0;
  for (const Tensor& all : {heads.q, heads.k, heads.v}) {
    const Tensor to = part_by_head(qkv, part++);
    ctx.ops.copy(to, all.view({to.rows(), to.cols()}));
  }
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
  const Heads heads = heads_of(ctx, saved.qkv), dheads = make_heads(ctx, dqkv);
  ctx.ops.attention_backward(dheads.q, dheads.k, dheads.v, dattended, heads.q, heads.k, heads.v,
                             saved.attended, Tensor(), saved.lse, Rotation(), Rotation(), plan,
                             heads_, heads_, scale_);
  put_heads(ctx, dqkv, dheads);
  qkv_.backward(ctx, dnormed, dqkv, saved.normed1, saved.qkv_saved);
  norm1_.backward(ctx, dx, dnormed, x, saved.norm1, dx);
}

}  // namespace facet
