#include "model/attention_pool.h"

#include <cmath>

namespace facet {
namespace {

PackedLinear linear(ParamTable& table, const std::string& root, const std::string& path,
                    const AttentionPool::Shape& shape, int64_t inputs, PackedLinear::Bias bias,
                    const AttentionPool::Start& start) {
  return PackedLinear(table, root, {{path, shape.width}}, inputs, bias, LoraConfig(), start.linear,
                      start.bias);
}

LayerNorm norm(ParamTable& table, const std::string& name, const AttentionPool::Shape& shape,
               const AttentionPool::Start& start) {
  return LayerNorm(table, name, shape.width, shape.eps, start.norm_weight, start.norm_bias);
}

}  // namespace

AttentionPool::AttentionPool(ParamTable& table, const std::string& root, const std::string& path,
                             const Shape& shape, const Start& start)
    : queries_count_(shape.queries),
      patches_(shape.patches),
      width_(shape.width),
      heads_(width_ / kHeadWidth),
      scale_(static_cast<float>(1.0 / std::sqrt(static_cast<double>(kHeadWidth)))),
      pos_embed_(table.add(root + path + "pos_embed", {queries_count_, width_},
                           ParamRole::kEmbedding, start.positions)),
      query_(table.add(root + path + "query", {queries_count_, width_}, ParamRole::kWeight,
                       start.query)),
      kv_proj_(linear(table, root, path + "kv_proj", shape, shape.inputs, shape.kv_bias, start)),
      in_proj_weight_(table.add(root + path + "attn.in_proj_weight", {3 * width_, width_},
                                ParamRole::kWeight, start.in_proj)),
      in_proj_bias_(
          table.add(root + path + "attn.in_proj_bias", {3 * width_}, ParamRole::kBias, start.bias)),
      out_proj_(linear(table, root, path + "attn.out_proj", shape, width_,
                       PackedLinear::Bias::kPresent, start)),
      norm_q_(norm(table, root + path + "ln_q", shape, start)),
      norm_kv_(norm(table, root + path + "ln_kv", shape, start)) {
  ASSERT(width_ > 0 && width_ % kHeadWidth == 0, "a pool of width {}", width_);
}

void AttentionPool::forward(Context& ctx, Tensor pooled, Tensor features) {
  const int64_t images = features.rows() / patches_, rows = pooled.rows();
  make_full_plan(plan_, images, queries_count_, patches_);
  run_queries(ctx, images);
  run_keys(ctx, features);
  attended_ = ctx.activation({rows, width_});
  lse_ = ctx.arena.tensor({1, heads_, rows});
  ctx.ops.attention_forward(attended_, lse_, Tensor(), queries_, keys_, values_, plan_, heads_,
                            heads_, scale_);
  out_proj_.forward(ctx, pooled, attended_, Tensor(), &out_proj_saved_);
}

void AttentionPool::run_queries(Context& ctx, int64_t images) {
  queries_ = ctx.activation({images * queries_count_, width_});
  query_in_ = ctx.activation({queries_count_, width_});
  norm_q_.forward(ctx, query_in_, query_->value, &norm_q_saved_);
  ctx.ops.add_accumulate(query_in_, pos_embed_->value);
  ArenaScope scope(ctx.arena);
  const Tensor once = ctx.activation({queries_count_, width_});
  in_proj(ctx, kQuery, once, query_in_);
  ctx.ops.repeat_rows_forward(queries_, once, images);
}

void AttentionPool::run_keys(Context& ctx, Tensor features) {
  const auto rows_of_keys = [&] { return ctx.activation({features.rows(), width_}); };
  kv_ = rows_of_keys();
  kv_proj_.forward(ctx, kv_, features, Tensor(), &kv_saved_);
  value_in_ = rows_of_keys();
  norm_kv_.forward(ctx, value_in_, kv_, &norm_kv_saved_);
  key_in_ = rows_of_keys();
  keys_ = rows_of_keys();
  values_ = rows_of_keys();
  ArenaScope scope(ctx.arena);
  ctx.ops.add_repeated_rows_forward(key_in_, value_in_, key_positions(ctx));
  in_proj(ctx, kKey, keys_, key_in_);
  in_proj(ctx, kValue, values_, value_in_);
}

Tensor AttentionPool::key_positions(Context& ctx) const {
  if (patches_ == queries_count_) return pos_embed_->value;
  const Tensor resized = ctx.activation({patches_, width_});
  ctx.ops.resize_positions_forward(resized, pos_embed_->value);
  return resized;
}

void AttentionPool::in_proj(Context& ctx, Third third, Tensor y, Tensor x) const {
  ctx.ops.linear_forward(y, x, third_of_weight(in_proj_weight_->value, third),
                         in_proj_bias_->value.column_block(third * width_, width_), Tensor());
}

void AttentionPool::in_proj_backward_weight(Context& ctx, Third third, Tensor dy, Tensor x) const {
  const Tensor dweight =
      in_proj_weight_->trained ? third_of_weight(in_proj_weight_->grad, third) : Tensor();
  const Tensor dbias =
      in_proj_bias_->trained ? in_proj_bias_->grad.column_block(third * width_, width_) : Tensor();
  if (dweight.defined() || dbias.defined()) ctx.ops.linear_backward_weight(dweight, dbias, dy, x);
}

void AttentionPool::backward(Context& ctx, Tensor dfeatures, Tensor dpooled, Tensor features) {
  const int64_t rows = dpooled.rows();
  const Tensor dqueries = ctx.activation({rows, width_});
  const Tensor dkeys = ctx.activation({features.rows(), width_});
  const Tensor dvalues = ctx.activation({features.rows(), width_});
  {
    ArenaScope scope(ctx.arena);
    const Tensor dattended = ctx.activation({rows, width_});
    out_proj_.backward(ctx, dattended, dpooled, attended_, out_proj_saved_);
    ctx.ops.attention_backward(dqueries, dkeys, dvalues, dattended, queries_, keys_, values_,
                               attended_, Tensor(), lse_, Rotation(), Rotation(), plan_, heads_,
                               heads_, scale_);
  }
  queries_backward(ctx, dqueries);
  keys_backward(ctx, dfeatures, dkeys, dvalues, features);
}

void AttentionPool::queries_backward(Context& ctx, Tensor dqueries) {
  ArenaScope scope(ctx.arena);
  const Tensor dq = ctx.activation({queries_count_, width_});
  ctx.ops.repeat_rows_backward(dq, dqueries, dqueries.rows() / queries_count_);
  in_proj_backward_weight(ctx, kQuery, dq, query_in_);
  const Tensor dquery_in = ctx.activation({queries_count_, width_});
  ctx.ops.linear_backward_input(dquery_in, dq, third_of_weight(in_proj_weight_->value, kQuery));
  if (pos_embed_->trained) ctx.ops.add_accumulate(pos_embed_->grad, dquery_in);
  const Tensor dquery = dq;
  norm_q_.backward(ctx, dquery, dquery_in, query_->value, norm_q_saved_, Tensor());
  if (query_->trained) ctx.ops.add_accumulate(query_->grad, dquery);
}

void AttentionPool::keys_backward(Context& ctx, Tensor dfeatures, Tensor dkeys, Tensor dvalues,
                                  Tensor features) {
  ArenaScope scope(ctx.arena);
  in_proj_backward_weight(ctx, kKey, dkeys, key_in_);
  in_proj_backward_weight(ctx, kValue, dvalues, value_in_);
  const Tensor dnormed = ctx.activation({features.rows(), width_});
  ctx.ops.linear_backward_input(dnormed, dkeys, third_of_weight(in_proj_weight_->value, kKey));
  if (pos_embed_->trained) key_positions_backward(ctx, dnormed);
  ctx.ops.linear_backward_input_accumulate(dnormed, dvalues,
                                           third_of_weight(in_proj_weight_->value, kValue));
  const Tensor dkv = dkeys;
  norm_kv_.backward(ctx, dkv, dnormed, kv_, norm_kv_saved_, Tensor());
  kv_proj_.backward(ctx, dfeatures, dkv, features, kv_saved_);
}

void AttentionPool::key_positions_backward(Context& ctx, Tensor dkey_in) {
  if (patches_ == queries_count_)
    return ctx.ops.add_repeated_rows_backward(pos_embed_->grad, dkey_in);
  ArenaScope scope(ctx.arena);
  const Tensor dresized = ctx.arena.tensor({patches_, width_});
  ctx.ops.fill(dresized, 0);
  ctx.ops.add_repeated_rows_backward(dresized, dkey_in);
  ctx.ops.resize_positions_backward_accumulate(pos_embed_->grad, dresized);
}

}  // namespace facet
