#include "model/llama_block.h"

#include <cmath>

namespace facet {

namespace {
PackedLinear::Saved* kept(PackedLinear::Saved& saved, Keep keep) {
  return keep == Keep::kForBackward ? &saved : nullptr;
}

std::string module(int64_t layer, const char* name) {
  return "model.layers." + std::to_string(layer) + "." + name;
}

PackedLinear::Bias bias(bool present) {
  return present ? PackedLinear::Bias::kPresent : PackedLinear::Bias::kNone;
}
}  // namespace

// What this rank has of heads and of the feed-forward width.
struct LlamaBlock::Shares {
  explicit Shares(const LlamaConfig& config)
      : heads(config.group.even(config.num_attention_heads)),
        kv_heads(config.group.kv_heads(config.num_key_value_heads)),
        mlp(config.group.even(config.intermediate_size)) {}
  Share heads, kv_heads, mlp;
};

LlamaBlock::LlamaBlock(ParamTable& table, const std::string& root, int64_t layer,
                       const LlamaConfig& config, const LoraConfig& lora)
    : LlamaBlock(table, root, layer, config, lora, Shares(config)) {}

LlamaBlock::LlamaBlock(ParamTable& table, const std::string& root, int64_t layer,
                       const LlamaConfig& config, const LoraConfig& lora, const Shares& shares)
    : heads_(shares.heads.count),
      kv_heads_(shares.kv_heads.count),
      head_dim_(config.head_dim),
      width_(config.hidden_size),
      mlp_width_(shares.mlp.count),
      scale_(1.0f / std::sqrt(static_cast<float>(config.head_dim))),
      has_window_(config.has_window(layer)),
      norm1_(table, root + module(layer, "input_layernorm"), width_, config.rms_norm_eps),
      qkv_(table, root,
           {{module(layer, "self_attn.q_proj"), shares.heads.times(head_dim_)},
            {module(layer, "self_attn.k_proj"), shares.kv_heads.times(head_dim_)},
            {module(layer, "self_attn.v_proj"), shares.kv_heads.times(head_dim_)}},
           width_, bias(config.qkv_bias), lora),
      q_(qkv_.part(0, 1)),
      kv_(qkv_.part(1, 3)),
      out_(table, root, {{module(layer, "self_attn.o_proj"), width_}},
           shares.heads.times(head_dim_), bias(config.out_bias), lora),
      norm2_(table, root + module(layer, "post_attention_layernorm"), width_, config.rms_norm_eps),
      gate_up_(table, root,
               {{module(layer, "mlp.gate_proj"), shares.mlp},
                {module(layer, "mlp.up_proj"), shares.mlp}},
               width_, bias(config.mlp_bias), lora),
      down_(table, root, {{module(layer, "mlp.down_proj"), width_}}, shares.mlp,
            bias(config.mlp_bias), lora) {}

void LlamaBlock::project(Context& ctx, Tensor x, const DecoderRows& rows, Saved& saved,
                         Keep keep) const {
  const int64_t n = x.rows();
  saved.normed1 = shared_or_own(ctx, rows.normed, n, width_);
  const LoraDowns downs = (rows.asked.defined() ? kv_ : qkv_).downs(ctx, n);
  norm1_.forward(ctx, saved.normed1, x, &saved.norm1, downs.of_maker());
  if (rows.asked.defined()) return project_asked(ctx, rows, downs, saved, keep);
  const Tensor qkv = ctx.activation({n, qkv_.outputs()});
  qkv_.forward(ctx, qkv, saved.normed1, Tensor(), kept(saved.qkv_saved, keep), downs,
               {{rows.cos, rows.sin}, heads_ + kv_heads_});
  saved.q = qkv.column_block(0, q_.outputs());
  saved.k = key(qkv, q_.outputs());
  saved.v = value(qkv, q_.outputs());
}

void LlamaBlock::project_asked(Context& ctx, const DecoderRows& rows, const LoraDowns& downs,
                               Saved& saved, Keep keep) const {
  const AskedRows& asked = rows.asked;
  const Tensor kv = ctx.activation({saved.normed1.rows(), kv_.outputs()});
  kv_.forward(ctx, kv, saved.normed1, Tensor(), kept(saved.qkv_saved, keep), downs,
              {{rows.cos, rows.sin}, kv_heads_});
  saved.k = key(kv, 0);
  saved.v = value(kv, 0);
  saved.normed_asked = ctx.activation({asked.count(), width_});
  ctx.ops.gather_rows_forward(saved.normed_asked, saved.normed1, asked.rows);
  saved.q = ctx.activation({asked.count(), q_.outputs()});
  q_.forward(ctx, saved.q, saved.normed_asked, Tensor(), kept(saved.q_saved, keep), {},
             {{asked.cos, asked.sin}, heads_});
}

void LlamaBlock::attend(Context& ctx, Tensor k, Tensor v, const DecoderRows& rows,
                        Saved& saved) const {
  const Tensor q = saved.q;
  const int64_t n = q.rows();
  const AttentionPlan& plan = plan_of(rows);
  saved.lse = ctx.arena.tensor({plan.num_statistics(), heads_, n});
  saved.attended = ctx.activation({n, heads_ * head_dim_});
  saved.attended_part = plan.num_slots == 2 ? ctx.activation({n, heads_ * head_dim_}) : Tensor();
  ctx.ops.attention_forward(saved.attended, saved.lse, saved.attended_part, q, k, v, plan, heads_,
                            kv_heads_, scale_);
}

LoraDowns LlamaBlock::finish_attention(Context& ctx, Tensor x, const DecoderRows& rows,
                                       Saved& saved, Keep keep) const {
  const int64_t n = saved.attended.rows();
  saved.middle = ctx.activation({n, width_});
  if (rows.asked.defined()) {
    ctx.ops.gather_rows_forward(saved.middle, x, rows.asked.rows);
    x = saved.middle;
  }
  out_.forward(ctx, saved.middle, saved.attended, x, kept(saved.out_saved, keep));
  saved.normed2 = shared_or_own(ctx, rows.normed, n, width_);
  const LoraDowns downs = gate_up_.downs(ctx, n);
  norm2_.forward(ctx, saved.normed2, saved.middle, &saved.norm2, downs.of_maker());
  saved.gate_up = ctx.activation({n, 2 * mlp_width_});
  gate_up_.forward(ctx, saved.gate_up, saved.normed2, Tensor(), kept(saved.gate_up_saved, keep),
                   downs);
  saved.activated = shared_or_own(ctx, rows.activated, n, mlp_width_);
  const LoraDowns of_down = down_.downs(ctx, n);
  ctx.ops.swiglu_forward(saved.activated, saved.gate_up, of_down.of_maker());
  return of_down;
}

void LlamaBlock::forward(Context& ctx, Tensor y, Tensor x, const DecoderRows& rows,
                         Saved* saved) const {
  const Arena::Mark mark = ctx.arena.mark();
  const Keep keep = saved != nullptr ? Keep::kForBackward : Keep::kNothing;
  Saved scratch;
  Saved& values = saved != nullptr ? *saved : scratch;
  project(ctx, x, rows, values, keep);
  attend(ctx, values.k, values.v, rows, values);
  const LoraDowns downs = finish_attention(ctx, x, rows, values, keep);
  down_.forward(ctx, y, values.activated, values.middle, kept(values.down_saved, keep), downs);
  if (saved == nullptr) ctx.arena.release(mark);
}

void LlamaBlock::recompute(Context& ctx, Tensor x, const DecoderRows& rows, Saved& saved) const {
  project(ctx, x, rows, saved, Keep::kForBackward);
  attend(ctx, saved.k, saved.v, rows, saved);
  const LoraDowns downs = finish_attention(ctx, x, rows, saved, Keep::kForBackward);
  // The block's output itself is not needed again, only what LoRA saves while computing it.
  if (!down_.has_lora() || down_.save(downs, saved.down_saved)) return;
  const Tensor y = ctx.activation({saved.middle.rows(), width_});
  down_.forward(ctx, y, saved.activated, saved.middle, &saved.down_saved, downs);
}

void LlamaBlock::mlp_backward(Context& ctx, Tensor dy, const DecoderRows& rows,
                              const Saved& saved) const {
  ArenaScope scope(ctx.arena);
  const int64_t n = dy.rows();
  const Tensor dgate_up = ctx.activation({n, 2 * mlp_width_});
  {
    ArenaScope inner(ctx.arena);
    const Tensor dactivated = shared_or_own(ctx, rows.activated, n, mlp_width_);
    const PackedLinear::Halfway down = down_.backward_input(ctx, dactivated, dy, saved.down_saved);
    ctx.ops.swiglu_backward(dgate_up, rebuilt(rows.activated, saved.activated, down_), dactivated,
                            saved.gate_up);
    down_.backward_weights(ctx, down, saved.activated, saved.down_saved);
  }
  const Tensor dnormed = shared_or_own(ctx, rows.normed, n, width_);
  const PackedLinear::Halfway gate_up =
      gate_up_.backward_input(ctx, dnormed, dgate_up, saved.gate_up_saved);
  norm2_.backward(ctx, dy, dnormed, saved.middle, saved.norm2, dy,
                  rebuilt(rows.normed, saved.normed2, gate_up_));
  gate_up_.backward_weights(ctx, gate_up, saved.normed2, saved.gate_up_saved);
}

void LlamaBlock::attention_backward(Context& ctx, Tensor dq, Tensor dk, Tensor dv, Tensor dy,
                                    const DecoderRows& rows, const Saved& saved) const {
  ArenaScope scope(ctx.arena);
  const Tensor dattended = ctx.activation({dy.rows(), heads_ * head_dim_});
  out_.backward(ctx, dattended, dy, saved.attended, saved.out_saved);
  const Rotation all{rows.cos, rows.sin}, asked{rows.asked.cos, rows.asked.sin};
  ctx.ops.attention_backward(dq, dk, dv, dattended, saved.q, saved.k, saved.v, saved.attended,
                             saved.attended_part, saved.lse, rows.asked.defined() ? asked : all,
                             all, plan_of(rows), heads_, kv_heads_, scale_);
}

PackedLinear::Halfway LlamaBlock::project_backward(Context& ctx, Tensor dnormed, Tensor dy,
                                                   const DecoderRows& rows,
                                                   const Saved& saved) const {
  if (rows.asked.defined()) return project_asked_backward(ctx, dnormed, dy, rows, saved);
  const Tensor dqkv = ctx.activation({dy.rows(), qkv_.outputs()});
  const Tensor dq = dqkv.column_block(0, q_.outputs());
  attention_backward(ctx, dq, key(dqkv, q_.outputs()), value(dqkv, q_.outputs()), dy, rows, saved);
  return qkv_.backward_input(ctx, dnormed, dqkv, saved.qkv_saved);
}

// The gradient of `normed1` by the queries first: that by keys and values is added in place.
PackedLinear::Halfway LlamaBlock::project_asked_backward(Context& ctx, Tensor dnormed, Tensor dy,
                                                         const DecoderRows& rows,
                                                         const Saved& saved) const {
  const AskedRows& asked = rows.asked;
  const Tensor dkv = ctx.activation({saved.k.rows(), kv_.outputs()});
  const Tensor dq = ctx.activation({asked.count(), q_.outputs()});
  attention_backward(ctx, dq, key(dkv, 0), value(dkv, 0), dy, rows, saved);
  const Tensor dasked = dnormed.defined() ? ctx.activation({asked.count(), width_}) : Tensor();
  q_.backward(ctx, dasked, dq, saved.normed_asked, saved.q_saved);
  if (dnormed.defined()) ctx.ops.gather_rows_backward(dnormed, dasked, asked.rows);
  return kv_.backward_input(ctx, dnormed, dkv, saved.qkv_saved, PackedLinear::Dx::kAdd);
}

void LlamaBlock::backward(Context& ctx, Tensor dx, Tensor dy, Tensor x, const DecoderRows& rows,
                          const Saved& saved, InputGradient input_gradient) const {
  mlp_backward(ctx, dy, rows, saved);
  ArenaScope scope(ctx.arena);
  const bool through_norm = input_gradient == InputGradient::kNeeded || norm1_.any_trained();
  const Tensor dnormed =
      through_norm ? shared_or_own(ctx, rows.normed, dx.rows(), width_) : Tensor();
  const PackedLinear& linear = rows.asked.defined() ? kv_ : qkv_;
  const PackedLinear::Halfway halfway = project_backward(ctx, dnormed, dy, rows, saved);
  const Tensor normed = rebuilt(rows.normed, saved.normed1, linear);
  if (through_norm && rows.asked.defined()) ctx.ops.gather_rows_backward(dx, dy, rows.asked.rows);
  if (through_norm)
    norm1_.backward(ctx, dx, dnormed, x, saved.norm1, dx, normed);
  else if (normed.defined())
    norm1_.rebuild(ctx, normed, x, saved.norm1);
  linear.backward_weights(ctx, halfway, saved.normed1, saved.qkv_saved);
}

void LlamaBlock::append(Context& ctx, Tensor x, const DecoderRows& rows, const Cache& cache,
                        std::span<const StoredRows> stored) const {
  ArenaScope scope(ctx.arena);
  Saved scratch;
  project(ctx, x, rows, scratch, Keep::kNothing);
  for (const auto& [from, to, count] : stored) {
    ctx.ops.copy(cache.k.row_block(to, count), scratch.k.row_block(from, count));
    ctx.ops.copy(cache.v.row_block(to, count), scratch.v.row_block(from, count));
  }
  const int64_t keys = rows.plan.pool_rows;
  attend(ctx, cache.k.row_block(0, keys), cache.v.row_block(0, keys), rows, scratch);
  const LoraDowns downs = finish_attention(ctx, x, rows, scratch, Keep::kNothing);
  down_.forward(ctx, x, scratch.activated, scratch.middle, nullptr, downs);
}

bool LlamaBlock::any_trained() const {
  return norm1_.any_trained() || qkv_.any_trained() || out_.any_trained() || norm2_.any_trained() ||
         gate_up_.any_trained() || down_.any_trained();
}

}  // namespace facet
