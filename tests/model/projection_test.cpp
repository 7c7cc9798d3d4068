#include "model/projection.h"

#include <gtest/gtest.h>

#include "tests/model/vision_rig.h"

namespace facet {
namespace {

using vision_rig::Mat;
using vision_rig::Params;

VlmConfig small_config(ProjectionKind kind) {
  VlmConfig config;
  config.vision.hidden_size = 14;
  config.vision.intermediate_size = 23;
  config.vision.num_hidden_layers = 1;
  config.vision.num_attention_heads = 2;
  config.vision.image_size = 9;
  config.vision.patch_size = 3;
  config.image_size = 9;
  config.lm.hidden_size = kind == ProjectionKind::kPerceiver ? 128 : 11;
  config.projection = kind;
  return config;
}

struct Rig {
  Rig(const VlmConfig& c, const std::string& trained)
      : config(c), projection(Projection::make(table, config)), hooks(table) {
    if (!trained.empty()) {
      EXPECT_GT(table.set_trained(trained, true), 0);
    }
    params = vision_rig::fill(table);
  }
  Mat features(int64_t images) const {
    return vision_rig::random_mat(images * config.vision_tokens(), config.vision.hidden_size,
                                  "features");
  }
  Mat weights(int64_t images) const {
    return vision_rig::random_mat(images * config.image_tokens(), config.lm.hidden_size, "G");
  }
  struct Result {
    std::vector<float> tokens, dfeatures;
  };
  // Tokens and the gradient of sum(weights * tokens), by the features and in the table.
  Result run(const Mat& features, const Mat& weights) {
    ArenaScope scope(arena);
    const Tensor input = arena.tensor({features.rows, features.cols});
    vision_rig::set(input, features);
    const Tensor tokens = projection->forward(ctx, input, Keep::kForBackward);
    Result result{vision_rig::floats_of(tokens), {}};
    const Tensor dtokens = arena.tensor({tokens.rows(), tokens.cols()});
    vision_rig::set(dtokens, weights);
    const Tensor dfeatures = arena.tensor({features.rows, features.cols});
    vision_rig::fill_nan(dfeatures);
    projection->backward(ctx, dfeatures, dtokens);
    result.dfeatures = vision_rig::floats_of(dfeatures);
    return result;
  }

  VlmConfig config;
  ParamTable table;
  std::unique_ptr<Projection> projection;
  vision_rig::RecordingHooks hooks;
  Arena arena{"test", 256 << 20};
  CpuBackend ops{2};
  Context ctx{ops, arena, hooks};
  Params params;
};

void expect_all_gradients(const VlmConfig& config, int64_t images) {
  Rig rig(config, "projection.");
  Mat features = rig.features(images);
  const Mat weights = rig.weights(images);
  const Rig::Result result = rig.run(features, weights);
  EXPECT_LE(vision_rig::relative_error(result.tokens,
                                       vision_reference::project(rig.params, config, features).a),
            2e-6);
  const auto functional = [&] {
    return vision_rig::dot(vision_reference::project(rig.params, config, features).a, weights.a);
  };
  std::vector<vision_rig::GradientOf> gradients =
      vision_rig::trained_gradients(rig.table, rig.params);
  gradients.push_back({"features", {result.dfeatures.begin(), result.dfeatures.end()}, &features});
  // The perceiver's 256 queries make the reference slow.
  const int trials = config.projection == ProjectionKind::kPerceiver ? 1 : 3;
  vision_rig::expect_gradients(gradients, trials, functional);
}

TEST(Projection, BaselineMatchesFp64) {
  expect_all_gradients(small_config(ProjectionKind::kBaseline), 3);
}

TEST(Projection, VitMatchesFp64) { expect_all_gradients(small_config(ProjectionKind::kVit), 3); }

TEST(Projection, MlpMatchesFp64) { expect_all_gradients(small_config(ProjectionKind::kMlp), 3); }

TEST(Projection, PerceiverMatchesFp64) {
  expect_all_gradients(small_config(ProjectionKind::kPerceiver), 2);
}

TEST(Projection, PerceiverWithTwoHeadsAndTrainedPositionsMatchesFp64) {
  VlmConfig config = small_config(ProjectionKind::kPerceiver);
  config.lm.hidden_size = 256;
  config.compat_visualchat = true;
  expect_all_gradients(config, 1);
}

TEST(Projection, PerceiverOnItsOwnGridMatchesFp64) {
  VlmConfig config = small_config(ProjectionKind::kPerceiver);
  config.image_size = 48;
  config.compat_visualchat = true;
  expect_all_gradients(config, 1);
}

TEST(Projection, PerceiverPositionsAreConstantSinCosUnlessCompat) {
  VlmConfig config = small_config(ProjectionKind::kPerceiver);
  Rig rig(config, "projection.");
  Param& position = *rig.table.find("projection.pos_embed");
  EXPECT_FALSE(position.trained);
  ParamTable::draw(position, 1);
  // Row 16*3 + 5: column 5, row 3; channel groups of 32: sin x, cos x, sin y, cos y.
  const Tensor row = position.value.row_block(16 * 3 + 5, 1);
  for (const int64_t i : {0, 7, 31}) {
    const double wave = std::pow(10000.0, -static_cast<double>(i) / 32);
    EXPECT_FLOAT_EQ(row.f32()[i], std::sin(5 * wave));
    EXPECT_FLOAT_EQ(row.f32()[32 + i], std::cos(5 * wave));
    EXPECT_FLOAT_EQ(row.f32()[64 + i], std::sin(3 * wave));
    EXPECT_FLOAT_EQ(row.f32()[96 + i], std::cos(3 * wave));
  }
  config.compat_visualchat = true;
  Rig compat(config, "projection.");
  EXPECT_TRUE(compat.table.find("projection.pos_embed")->trained);
}

TEST(Projection, PerceiverRefusesWidthsThatAreNoMultipleOf128) {
  VlmConfig config = small_config(ProjectionKind::kPerceiver);
  config.lm.hidden_size = 192;
  ParamTable table;
  try {
    Projection::make(table, config);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    EXPECT_NE(std::string(error.what()).find("128"), std::string::npos);
  }
}

TEST(Projection, PooledFeaturesAreRefusedByThoseOfPatches) {
  for (const ProjectionKind kind : {ProjectionKind::kBaseline, ProjectionKind::kMlp,
                                    ProjectionKind::kVit, ProjectionKind::kPerceiver}) {
    VlmConfig config = small_config(kind);
    config.vision.family = VisionFamily::kQwenVl;
    config.vision.pool_queries = 4;
    config.vision.pool_width = 128;
    ParamTable table;
    if (kind == ProjectionKind::kBaseline || kind == ProjectionKind::kMlp) {
      EXPECT_EQ(config.image_tokens(), 4);
      Projection::make(table, config);
      EXPECT_EQ(table.find("projection.0.weight")->shape, (std::vector<int64_t>{11, 128}));
    } else {
      EXPECT_THROW(Projection::make(table, config), Error);
    }
  }
}

TEST(Projection, RecomputeGivesTheSameBits) {
  for (const ProjectionKind kind : {ProjectionKind::kBaseline, ProjectionKind::kVit,
                                    ProjectionKind::kPerceiver, ProjectionKind::kMlp}) {
    std::vector<float> values[2];
    for (const int64_t recompute : {0, 1}) {
      VlmConfig config = small_config(kind);
      config.recompute = recompute == 1;
      Rig rig(config, "projection.");
      const Rig::Result result = rig.run(rig.features(2), rig.weights(2));
      std::vector<float>& all = values[recompute] = result.tokens;
      all.insert(all.end(), result.dfeatures.begin(), result.dfeatures.end());
      for (const Param& param : rig.table.params())
        if (param.trained)
          for (const float g : vision_rig::floats_of(param.grad)) all.push_back(g);
    }
    EXPECT_EQ(values[0], values[1]);
  }
}

TEST(Projection, HooksAreTheSameWithoutImagesAndWithoutGradient) {
  VlmConfig config = small_config(ProjectionKind::kPerceiver);
  config.recompute = true;
  const std::vector<std::string> forward = {"before forward projection",
                                            "after forward projection"};
  const std::vector<std::string> backward = {
      "before backward projection", "before recompute projection", "after recompute projection",
      "after backward projection", "ready projection"};
  std::vector<std::string> both = forward;
  both.insert(both.end(), backward.begin(), backward.end());
  for (const int64_t images : {1, 0}) {
    Rig rig(config, "projection.");
    rig.run(rig.features(images), rig.weights(images));
    EXPECT_EQ(rig.hooks.events, both) << images << " images";
    rig.hooks.events.clear();
    rig.projection->skip_backward(rig.ctx);
    EXPECT_EQ(rig.hooks.events, backward);
  }
}

TEST(Projection, StartsAsPromised) {
  Rig rig(small_config(ProjectionKind::kPerceiver), "projection.");
  for (Param& param : rig.table.params()) ParamTable::draw(param, 3);
  const auto deviation = [&](const char* name) {
    const std::vector<float> values = vision_rig::floats_of(rig.table.find(name)->value);
    return vision_rig::norm({values.begin(), values.end()}) /
           std::sqrt(static_cast<double>(values.size()));
  };
  EXPECT_NEAR(deviation("projection.query"), 0.02, 0.0005);
  EXPECT_NEAR(deviation("projection.attn.out_proj.weight"), 0.02, 0.0005);
  EXPECT_NEAR(deviation("projection.projection.1.weight"), 0.02, 0.0005);
  // A uniform draw within b has deviation b/sqrt(3); Xavier: b = sqrt(6/(384+128)).
  EXPECT_NEAR(deviation("projection.attn.in_proj_weight"), std::sqrt(6.0 / 512 / 3), 0.001);
  EXPECT_EQ(deviation("projection.kv_proj.bias"), 0);
  EXPECT_EQ(deviation("projection.ln_kv.weight"), 1);

  Rig baseline(small_config(ProjectionKind::kBaseline), "projection.");
  for (Param& param : baseline.table.params()) ParamTable::draw(param, 3);
  for (const char* name : {"projection.0.weight", "projection.0.bias"}) {
    float largest = 0;
    for (const float v : vision_rig::floats_of(baseline.table.find(name)->value))
      largest = std::max(largest, std::abs(v));
    EXPECT_LE(largest, 1 / std::sqrt(14.0)) << name;
    EXPECT_GT(largest, 0.7 / std::sqrt(14.0)) << name;
  }
}

}  // namespace
}  // namespace facet
