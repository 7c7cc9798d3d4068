// The perceiver: learned queries read an image's patches (attention_pool.h), then LayerNorm and
// Linear.
#include "base/check.h"
#include "model/attention_pool.h"
#include "model/projection.h"
#include "nn/linear.h"
#include "nn/norm.h"

namespace facet {
namespace {

constexpr float kEps = 1e-12f;
const char* const kRoot = "projection.";

constexpr AttentionPool::Start kStart = {.positions = Init::kSinCosGrid,
                                         .query = Init::kNormal002,
                                         .linear = Init::kNormal002,
                                         .in_proj = Init::kXavierUniform,
                                         .bias = Init::kZero,
                                         .norm_weight = Init::kOne,
                                         .norm_bias = Init::kZero};

AttentionPool::Shape checked_shape(const VlmConfig& config) {
  const int64_t width = config.lm.hidden_size;
  CHECK(width > 0 && width % AttentionPool::kHeadWidth == 0, ExitCode::kConfig,
        "--vis_proj perceiver needs a decoder whose hidden_size is a multiple of {}, this one has "
        "{}; choose --vis_proj baseline or vit",
        AttentionPool::kHeadWidth, width);
  return {.queries = kPerceiverQueries,
          .patches = config.vision_tokens(),
          .inputs = config.vision.hidden_size,
          .width = width,
          .eps = kEps};
}

class PerceiverProjection final : public Projection {
 public:
  PerceiverProjection(ParamTable& table, const VlmConfig& config);

 private:
  void run(Context& ctx, Tensor tokens, Tensor features) override;
  void run_backward(Context& ctx, Tensor dfeatures, Tensor dtokens, Tensor features) override;

  int64_t width_;  // D
  AttentionPool pool_;
  LayerNorm norm_;
  PackedLinear linear_;

  // Of the current forward.
  Tensor pooled_;  // (I*256,D)
  Tensor normed_;  // (I*256,D)
  LayerNorm::Saved norm_saved_;
  PackedLinear::Saved linear_saved_;
};

PerceiverProjection::PerceiverProjection(ParamTable& table, const VlmConfig& config)
    : Projection(table, config),
      width_(config.lm.hidden_size),
      pool_(table, kRoot, "", checked_shape(config), kStart),
      norm_(table, std::string(kRoot) + "projection.0", width_, kEps, Init::kOne, Init::kZero),
      linear_(table, kRoot, {{"projection.1", width_}}, width_, PackedLinear::Bias::kPresent,
              LoraConfig(), kStart.linear, kStart.bias) {
  pool_.positions().constant = !config.compat_visualchat;
}

void PerceiverProjection::run(Context& ctx, Tensor tokens, Tensor features) {
  pooled_ = ctx.activation({tokens.rows(), width_});
  pool_.forward(ctx, pooled_, features);
  normed_ = ctx.activation({tokens.rows(), width_});
  norm_.forward(ctx, normed_, pooled_, &norm_saved_);
  linear_.forward(ctx, tokens, normed_, Tensor(), &linear_saved_);
}

void PerceiverProjection::run_backward(Context& ctx, Tensor dfeatures, Tensor dtokens,
                                       Tensor features) {
  const Tensor dpooled = dtokens;
  {
    ArenaScope scope(ctx.arena);
    const Tensor dnormed = ctx.activation({dtokens.rows(), width_});
    linear_.backward(ctx, dnormed, dtokens, normed_, linear_saved_);
    norm_.backward(ctx, dpooled, dnormed, pooled_, norm_saved_, Tensor());
  }
  pool_.backward(ctx, dfeatures, dpooled, features);
}

}  // namespace

std::unique_ptr<Projection> make_perceiver_projection(ParamTable& table, const VlmConfig& config) {
  return std::make_unique<PerceiverProjection>(table, config);
}

}  // namespace facet
