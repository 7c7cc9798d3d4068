// The projections that end in Linear and LayerNorm: baseline, and vit with a vision block before.
#include "model/projection.h"
#include "model/vision_block.h"
#include "nn/linear.h"
#include "nn/norm.h"

namespace facet {
namespace {

constexpr float kEps = 1e-12f;

// Linear(C->D), LayerNorm(D): the head of both.
class LinearNorm {
 public:
  LinearNorm(ParamTable& table, const std::string& path, const VlmConfig& config)
      : linear_(table, "projection.", {{path + "0", config.lm.hidden_size}},
                config.vision.feature_width(), PackedLinear::Bias::kPresent, LoraConfig(),
                Init::kUniformFanIn, Init::kUniformFanIn),
        norm_(table, "projection." + path + "1", config.lm.hidden_size, kEps, Init::kOne,
              Init::kZero) {}

  void run(Context& ctx, Tensor tokens, Tensor features) {
    linear_out_ = ctx.activation({tokens.rows(), tokens.cols()});
    linear_.forward(ctx, linear_out_, features, Tensor(), &linear_saved_);
    norm_.forward(ctx, tokens, linear_out_, &norm_saved_);
  }
  void run_backward(Context& ctx, Tensor dfeatures, Tensor dtokens, Tensor features) {
    const Tensor dlinear = ctx.activation({dtokens.rows(), dtokens.cols()});
    norm_.backward(ctx, dlinear, dtokens, linear_out_, norm_saved_, Tensor());
    linear_.backward(ctx, dfeatures, dlinear, features, linear_saved_);
  }

 private:
  PackedLinear linear_;
  LayerNorm norm_;
  Tensor linear_out_;  // (I*S,D)
  PackedLinear::Saved linear_saved_;
  LayerNorm::Saved norm_saved_;
};

class BaselineProjection final : public Projection {
 public:
  BaselineProjection(ParamTable& table, const VlmConfig& config)
      : Projection(table, config), head_(table, "", config) {}

 private:
  void run(Context& ctx, Tensor tokens, Tensor features) override {
    head_.run(ctx, tokens, features);
  }
  void run_backward(Context& ctx, Tensor dfeatures, Tensor dtokens, Tensor features) override {
    head_.run_backward(ctx, dfeatures, dtokens, features);
  }

  LinearNorm head_;
};

class VitProjection final : public Projection {
 public:
  VitProjection(ParamTable& table, const VlmConfig& config)
      : Projection(table, config),
        tokens_(config.vision_tokens()),
        block_(table, "projection.", "vis_layer.", config.vision, LoraConfig(),
               {Init::kUniformFanIn, Init::kOne, Init::kZero}),
        head_(table, "projection.", config) {}

 private:
  void run(Context& ctx, Tensor tokens, Tensor features) override {
    make_full_plan(plan_, features.rows() / tokens_, tokens_, tokens_);
    block_out_ = ctx.activation({features.rows(), features.cols()});
    block_.forward(ctx, block_out_, features, plan_, block_saved_, Keep::kForBackward);
    head_.run(ctx, tokens, block_out_);
  }
  void run_backward(Context& ctx, Tensor dfeatures, Tensor dtokens, Tensor features) override {
    const Tensor dx =
        dfeatures.defined() ? dfeatures : ctx.activation({features.rows(), features.cols()});
    head_.run_backward(ctx, dx, dtokens, block_out_);
    block_.backward(ctx, dx, features, plan_, block_saved_);
  }

  int64_t tokens_;
  VisionBlock block_;
  LinearNorm head_;
  AttentionPlan plan_;
  Tensor block_out_;  // (I*S,C)
  VisionBlock::Saved block_saved_;
};

}  // namespace

std::unique_ptr<Projection> make_baseline_projection(ParamTable& table, const VlmConfig& config) {
  return std::make_unique<BaselineProjection>(table, config);
}

std::unique_ptr<Projection> make_vit_projection(ParamTable& table, const VlmConfig& config) {
  return std::make_unique<VitProjection>(table, config);
}

}  // namespace facet
