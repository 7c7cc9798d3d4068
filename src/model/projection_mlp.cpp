// LLaVA-1.5's projection, mlp2x_gelu (Liu et al., 2023): Linear(C->D), GELU by erf, Linear(D->D).
#include "model/projection.h"
#include "nn/linear.h"

namespace facet {
namespace {

class MlpProjection final : public Projection {
 public:
  MlpProjection(ParamTable& table, const VlmConfig& config)
      : Projection(table, config),
        first_(layer(table, "0", config.vision.feature_width(), config.lm.hidden_size)),
        second_(layer(table, "2", config.lm.hidden_size, config.lm.hidden_size)) {}

 private:
  // The names are those of a torch.nn.Sequential, in which GELU is module 1.
  static PackedLinear layer(ParamTable& table, const char* module, int64_t inputs,
                            int64_t outputs) {
    return PackedLinear(table, "projection.", {{module, outputs}}, inputs,
                        PackedLinear::Bias::kPresent, LoraConfig(), Init::kUniformFanIn,
                        Init::kUniformFanIn);
  }

  void run(Context& ctx, Tensor tokens, Tensor features) override {
    hidden_ = ctx.activation({tokens.rows(), tokens.cols()});
    first_.forward(ctx, hidden_, features, Tensor(), &first_saved_);
    activated_ = ctx.activation({tokens.rows(), tokens.cols()});
    ctx.ops.gelu_forward(activated_, hidden_, Activation::kGelu);
    second_.forward(ctx, tokens, activated_, Tensor(), &second_saved_);
  }
  void run_backward(Context& ctx, Tensor dfeatures, Tensor dtokens, Tensor features) override {
    const Tensor dhidden = ctx.activation({dtokens.rows(), dtokens.cols()});
    second_.backward(ctx, dhidden, dtokens, activated_, second_saved_);
    ctx.ops.gelu_backward(dhidden, dhidden, hidden_, Activation::kGelu);
    first_.backward(ctx, dfeatures, dhidden, features, first_saved_);
  }

  PackedLinear first_, second_;
  Tensor hidden_, activated_;  // (I*S,D) before and behind GELU
  PackedLinear::Saved first_saved_, second_saved_;
};

}  // namespace

std::unique_ptr<Projection> make_mlp_projection(ParamTable& table, const VlmConfig& config) {
  return std::make_unique<MlpProjection>(table, config);
}

}  // namespace facet
