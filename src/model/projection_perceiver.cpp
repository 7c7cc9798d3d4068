// The perceiver: 256 learned queries read an image's patches by multi-head attention with heads of
// width 128. The query side does not depend on the image: it is computed once per micro-batch.
#include <cmath>

#include "base/check.h"
#include "model/projection.h"
#include "nn/linear.h"
#include "nn/norm.h"

namespace facet {
namespace {

constexpr float kEps = 1e-12f;
constexpr int64_t kHeadWidth = 128;
const char* const kRoot = "projection.";

int64_t checked_width(const VlmConfig& config) {
  const int64_t width = config.lm.hidden_size;
  CHECK(width > 0 && width % kHeadWidth == 0, ExitCode::kConfig,
        "--vis_proj perceiver needs a decoder whose hidden_size is a multiple of {}, this one has "
        "{}; choose --vis_proj baseline or vit",
        kHeadWidth, width);
  return width;
}

// A third of in_proj: for the query, the key or the value.
enum Third : int64_t { kQuery, kKey, kValue };

class PerceiverProjection final : public Projection {
 public:
  PerceiverProjection(ParamTable& table, const VlmConfig& config);

 private:
  void run(Context& ctx, Tensor tokens, Tensor features) override;
  void run_backward(Context& ctx, Tensor dfeatures, Tensor dtokens, Tensor features) override;
  void run_queries(Context& ctx, int64_t images);
  void run_keys(Context& ctx, Tensor features);
  void queries_backward(Context& ctx, Tensor dqueries);
  void keys_backward(Context& ctx, Tensor dfeatures, Tensor dkeys, Tensor dvalues, Tensor features);
  void key_positions_backward(Context& ctx, Tensor dkey_in);

  Tensor key_positions(Context& ctx) const;  // (P,D)
  void in_proj(Context& ctx, Third third, Tensor y, Tensor x) const;
  void in_proj_backward_weight(Context& ctx, Third third, Tensor dy, Tensor x) const;
  Tensor third_of_weight(const Tensor& weight, Third third) const {
    return weight.row_block(third * width_, width_);
  }

  int64_t width_;    // D
  int64_t patches_;  // P
  int64_t heads_;
  float scale_;
  Param* pos_embed_;  // (256,D)
  Param* query_;      // (256,D)
  PackedLinear kv_proj_;
  Param* in_proj_weight_;  // (3D,D) rows of q, k, v
  Param* in_proj_bias_;    // (3D)
  PackedLinear out_proj_;
  LayerNorm norm_q_;
  LayerNorm norm_kv_;
  LayerNorm norm_out_;
  PackedLinear linear_out_;

  // Of the current forward.
  AttentionPlan plan_;
  Tensor query_in_;       // (256,D) ln_q(query) + pos
  Tensor queries_;        // (I*256,D)
  Tensor kv_;             // (I*P,D) before ln_kv
  Tensor value_in_;       // (I*P,D) ln_kv(kv)
  Tensor key_in_;         // (I*P,D) value_in + positions
  Tensor keys_, values_;  // (I*P,D)
  Tensor lse_;            // (1,H,I*256)
  Tensor attended_;       // (I*256,D)
  Tensor attention_out_;  // (I*256,D) after out_proj
  Tensor normed_out_;     // (I*256,D)
  PackedLinear::Saved kv_saved_, out_proj_saved_, linear_out_saved_;
  LayerNorm::Saved norm_q_saved_, norm_kv_saved_, norm_out_saved_;
};

PackedLinear linear(ParamTable& table, const std::string& path, int64_t outputs, int64_t inputs) {
  return PackedLinear(table, kRoot, {{path, outputs}}, inputs, PackedLinear::Bias::kPresent,
                      LoraConfig(), Init::kNormal002, Init::kZero);
}

LayerNorm norm(ParamTable& table, const std::string& path, int64_t width) {
  return LayerNorm(table, kRoot + path, width, kEps, Init::kOne, Init::kZero);
}

PerceiverProjection::PerceiverProjection(ParamTable& table, const VlmConfig& config)
    : Projection(table, config),
      width_(checked_width(config)),
      patches_(config.vision_tokens()),
      heads_(width_ / kHeadWidth),
      scale_(static_cast<float>(1.0 / std::sqrt(static_cast<double>(kHeadWidth)))),
      pos_embed_(table.add("projection.pos_embed", {kPerceiverQueries, width_},
                           ParamRole::kEmbedding, Init::kSinCosGrid)),
      query_(table.add("projection.query", {kPerceiverQueries, width_}, ParamRole::kWeight,
                       Init::kNormal002)),
      kv_proj_(linear(table, "kv_proj", width_, config.vision.hidden_size)),
      in_proj_weight_(table.add("projection.attn.in_proj_weight", {3 * width_, width_},
                                ParamRole::kWeight, Init::kXavierUniform)),
      in_proj_bias_(
          table.add("projection.attn.in_proj_bias", {3 * width_}, ParamRole::kBias, Init::kZero)),
      out_proj_(linear(table, "attn.out_proj", width_, width_)),
      norm_q_(norm(table, "ln_q", width_)),
      norm_kv_(norm(table, "ln_kv", width_)),
      norm_out_(norm(table, "projection.0", width_)),
      linear_out_(linear(table, "projection.1", width_, width_)) {
  pos_embed_->constant = !config.compat_visualchat;
}

void PerceiverProjection::run(Context& ctx, Tensor tokens, Tensor features) {
  const int64_t images = features.rows() / patches_, rows = tokens.rows();
  make_full_plan(plan_, images, kPerceiverQueries, patches_);
  run_queries(ctx, images);
  run_keys(ctx, features);
  attended_ = ctx.activation({rows, width_});
  lse_ = ctx.arena.tensor({1, heads_, rows});
  ctx.ops.attention_forward(attended_, lse_, Tensor(), queries_, keys_, values_, plan_, heads_,
                            heads_, scale_);
  attention_out_ = ctx.activation({rows, width_});
  out_proj_.forward(ctx, attention_out_, attended_, Tensor(), &out_proj_saved_);
  normed_out_ = ctx.activation({rows, width_});
  norm_out_.forward(ctx, normed_out_, attention_out_, &norm_out_saved_);
  linear_out_.forward(ctx, tokens, normed_out_, Tensor(), &linear_out_saved_);
}

void PerceiverProjection::run_queries(Context& ctx, int64_t images) {
  queries_ = ctx.activation({images * kPerceiverQueries, width_});
  query_in_ = ctx.activation({kPerceiverQueries, width_});
  norm_q_.forward(ctx, query_in_, query_->value, &norm_q_saved_);
  ctx.ops.add_accumulate(query_in_, pos_embed_->value);
  ArenaScope scope(ctx.arena);
  const Tensor once = ctx.activation({kPerceiverQueries, width_});
  in_proj(ctx, kQuery, once, query_in_);
  ctx.ops.repeat_rows_forward(queries_, once, images);
}

void PerceiverProjection::run_keys(Context& ctx, Tensor features) {
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

Tensor PerceiverProjection::key_positions(Context& ctx) const {
  if (patches_ == kPerceiverQueries) return pos_embed_->value;
  const Tensor resized = ctx.activation({patches_, width_});
  ctx.ops.resize_positions_forward(resized, pos_embed_->value);
  return resized;
}

void PerceiverProjection::in_proj(Context& ctx, Third third, Tensor y, Tensor x) const {
  ctx.ops.linear_forward(y, x, third_of_weight(in_proj_weight_->value, third),
                         in_proj_bias_->value.column_block(third * width_, width_), Tensor());
}

void PerceiverProjection::in_proj_backward_weight(Context& ctx, Third third, Tensor dy,
                                                  Tensor x) const {
  const Tensor dweight =
      in_proj_weight_->trained ? third_of_weight(in_proj_weight_->grad, third) : Tensor();
  const Tensor dbias =
      in_proj_bias_->trained ? in_proj_bias_->grad.column_block(third * width_, width_) : Tensor();
  if (dweight.defined() || dbias.defined()) ctx.ops.linear_backward_weight(dweight, dbias, dy, x);
}

void PerceiverProjection::run_backward(Context& ctx, Tensor dfeatures, Tensor dtokens,
                                       Tensor features) {
  const int64_t rows = dtokens.rows();
  const Tensor dqueries = ctx.activation({rows, width_});
  const Tensor dkeys = ctx.activation({features.rows(), width_});
  const Tensor dvalues = ctx.activation({features.rows(), width_});
  {
    ArenaScope scope(ctx.arena);
    const Tensor dnormed = ctx.activation({rows, width_});
    linear_out_.backward(ctx, dnormed, dtokens, normed_out_, linear_out_saved_);
    const Tensor dout = dtokens;
    norm_out_.backward(ctx, dout, dnormed, attention_out_, norm_out_saved_, Tensor());
    const Tensor dattended = dnormed;
    out_proj_.backward(ctx, dattended, dout, attended_, out_proj_saved_);
    ctx.ops.attention_backward(dqueries, dkeys, dvalues, dattended, queries_, keys_, values_,
                               attended_, Tensor(), lse_, plan_, heads_, heads_, scale_);
  }
  queries_backward(ctx, dqueries);
  keys_backward(ctx, dfeatures, dkeys, dvalues, features);
}

void PerceiverProjection::queries_backward(Context& ctx, Tensor dqueries) {
  ArenaScope scope(ctx.arena);
  const Tensor dq = ctx.activation({kPerceiverQueries, width_});
  ctx.ops.repeat_rows_backward(dq, dqueries, dqueries.rows() / kPerceiverQueries);
  in_proj_backward_weight(ctx, kQuery, dq, query_in_);
  const Tensor dquery_in = ctx.activation({kPerceiverQueries, width_});
  ctx.ops.linear_backward_input(dquery_in, dq, third_of_weight(in_proj_weight_->value, kQuery));
  if (pos_embed_->trained) ctx.ops.add_accumulate(pos_embed_->grad, dquery_in);
  const Tensor dquery = dq;
  norm_q_.backward(ctx, dquery, dquery_in, query_->value, norm_q_saved_, Tensor());
  if (query_->trained) ctx.ops.add_accumulate(query_->grad, dquery);
}

void PerceiverProjection::keys_backward(Context& ctx, Tensor dfeatures, Tensor dkeys,
                                        Tensor dvalues, Tensor features) {
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

void PerceiverProjection::key_positions_backward(Context& ctx, Tensor dkey_in) {
  if (patches_ == kPerceiverQueries)
    return ctx.ops.add_repeated_rows_backward(pos_embed_->grad, dkey_in);
  ArenaScope scope(ctx.arena);
  const Tensor dresized = ctx.arena.tensor({patches_, width_});
  ctx.ops.fill(dresized, 0);
  ctx.ops.add_repeated_rows_backward(dresized, dkey_in);
  ctx.ops.resize_positions_backward_accumulate(pos_embed_->grad, dresized);
}

}  // namespace

std::unique_ptr<Projection> make_perceiver_projection(ParamTable& table, const VlmConfig& config) {
  return std::make_unique<PerceiverProjection>(table, config);
}

}  // namespace facet
