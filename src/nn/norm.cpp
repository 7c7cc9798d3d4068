#include "nn/norm.h"

namespace facet {
LayerNorm::LayerNorm(ParamTable& table, const std::string& name, int64_t width, float eps,
                     Init weight_init, Init bias_init)
    : weight_(table.add(name + ".weight", {width}, ParamRole::kNormWeight, weight_init)),
      bias_(table.add(name + ".bias", {width}, ParamRole::kBias, bias_init)),
      eps_(eps) {}

void LayerNorm::forward(Context& ctx, Tensor y, Tensor x, Saved* saved) const {
  const Arena::Mark mark = ctx.arena.mark();
  const Tensor mean = ctx.arena.tensor({x.rows()}), rstd = ctx.arena.tensor({x.rows()});
  ctx.ops.layer_norm_forward(y, mean, rstd, x, weight_->value, bias_->value, eps_);
  if (saved != nullptr)
    *saved = {mean, rstd};
  else
    ctx.arena.release(mark);
}

void LayerNorm::backward(Context& ctx, Tensor dx, Tensor dy, Tensor x, const Saved& saved,
                         Tensor dresidual) const {
  ctx.ops.layer_norm_backward(dx, weight_->grad, bias_->grad, dy, x, weight_->value, saved.mean,
                              saved.rstd, dresidual);
}

bool LayerNorm::any_trained() const { return weight_->trained || bias_->trained; }

RmsNorm::RmsNorm(ParamTable& table, const std::string& name, int64_t width, float eps)
    : weight_(table.add(name + ".weight", {width}, ParamRole::kNormWeight, Init::kNone)),
      eps_(eps) {}

void RmsNorm::forward(Context& ctx, Tensor y, Tensor x, Saved* saved,
                      std::span<const LoraDown> downs) const {
  const Arena::Mark mark = ctx.arena.mark();
  const Tensor rstd = ctx.arena.tensor({x.rows()});
  ctx.ops.rms_norm_forward(y, rstd, x, weight_->value, eps_, downs);
  if (saved != nullptr)
    saved->rstd = rstd;
  else
    ctx.arena.release(mark);
}

void RmsNorm::rebuild(Context& ctx, Tensor y, Tensor x, const Saved& saved) const {
  ctx.ops.rms_norm_forward(y, saved.rstd, x, weight_->value, eps_);
}

void RmsNorm::backward(Context& ctx, Tensor dx, Tensor dy, Tensor x, const Saved& saved,
                       Tensor dresidual, Tensor y) const {
  ctx.ops.rms_norm_backward(dx, weight_->grad, y, dy, x, weight_->value, saved.rstd, dresidual);
}

bool RmsNorm::any_trained() const { return weight_->trained; }

}  // namespace facet
