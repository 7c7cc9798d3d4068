#include "model/projection.h"

#include <algorithm>

#include "base/check.h"

namespace facet {

std::unique_ptr<Projection> Projection::make(ParamTable& table, const VlmConfig& config) {
  const bool of_features =
      config.projection == ProjectionKind::kBaseline || config.projection == ProjectionKind::kMlp;
  CHECK(of_features || !config.vision.traits().pool, ExitCode::kConfig,
        "--vis_proj: the {} vision encoder has pooled its patches itself; vit and perceiver work "
        "on patches: choose baseline or mlp2x_gelu",
        config.vision.traits().name);
  switch (config.projection) {
    case ProjectionKind::kBaseline: return make_baseline_projection(table, config);
    case ProjectionKind::kVit: return make_vit_projection(table, config);
    case ProjectionKind::kPerceiver: return make_perceiver_projection(table, config);
    case ProjectionKind::kMlp: return make_mlp_projection(table, config);
  }
  fail(ExitCode::kInternal, "unknown kind of projection");
}

Projection::Projection(ParamTable& table, const VlmConfig& config)
    : table_(table),
      unit_(table.begin_unit("projection")),
      width_(config.lm.hidden_size),
      tokens_in_(config.vision_tokens()),
      tokens_out_(config.image_tokens()),
      recompute_(config.recompute) {}

bool Projection::needs_backward() const {
  const ParamUnit& unit = table_.units()[static_cast<size_t>(unit_)];
  return std::any_of(unit.params.begin(), unit.params.end(),
                     [](const Param* param) { return param->trained; });
}

Tensor Projection::forward(Context& ctx, Tensor features, Keep keep) {
  features_ = features;
  const int64_t images = features.rows() / tokens_in_;
  const Tensor tokens = ctx.activation({images * tokens_out_, width_});
  const Arena::Mark mark = ctx.arena.mark();
  ctx.hooks.before(unit_, Phase::kForward);
  if (images > 0) run(ctx, tokens, features);
  if (images > 0) ctx.hooks.wrote(unit_, Phase::kForward, tokens);
  ctx.hooks.after(unit_, Phase::kForward);
  if (keep == Keep::kNothing || recompute_) ctx.arena.release(mark);
  return tokens;
}

void Projection::backward(Context& ctx, Tensor dfeatures, Tensor dtokens) {
  ASSERT(dtokens.cols() == width_ && dtokens.rows() * tokens_in_ == features_.rows() * tokens_out_,
         "gradient {} of the tokens of features {}", dtokens.shape_string(),
         features_.shape_string());
  ArenaScope scope(ctx.arena);
  const bool compute = dtokens.rows() > 0 && (needs_backward() || dfeatures.defined());
  ctx.hooks.before(unit_, Phase::kBackward);
  if (recompute_) {
    ctx.hooks.before(unit_, Phase::kRecompute);
    if (compute) run(ctx, ctx.activation({dtokens.rows(), width_}), features_);
    ctx.hooks.after(unit_, Phase::kRecompute);
  }
  if (compute) run_backward(ctx, dfeatures, dtokens, features_);
  if (compute && dfeatures.defined()) ctx.hooks.wrote(unit_, Phase::kBackward, dfeatures);
  ctx.hooks.after(unit_, Phase::kBackward);
  ctx.hooks.gradients_ready(unit_);
}

void Projection::skip_backward(Context& ctx) {
  ctx.hooks.before(unit_, Phase::kBackward);
  if (recompute_) {
    ctx.hooks.before(unit_, Phase::kRecompute);
    ctx.hooks.after(unit_, Phase::kRecompute);
  }
  ctx.hooks.after(unit_, Phase::kBackward);
  ctx.hooks.gradients_ready(unit_);
}

}  // namespace facet
