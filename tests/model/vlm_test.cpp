// The composed model against fp64: logits, loss, and the slope of the loss along every parameter.
#include "model/vlm.h"

#include <gtest/gtest.h>

#include <cmath>

#include <ostream>

#include "tests/model/language_rig.h"

namespace facet {
namespace {

using language_reference::DepartureScores;
using language_rig::Rig;

struct Variant {
  const char* name;
  void (*change)(VlmConfig& config);

  friend void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }
};

const Variant kVariants[] = {
    {"Plain", [](VlmConfig&) {}},
    {"Tied", [](VlmConfig& c) { c.lm.tie_word_embeddings = true; }},
    {"OneKeyHeadPerQueryHead", [](VlmConfig& c) { c.lm.num_key_value_heads = 4; }},
    {"WideHeads", [](VlmConfig& c) { c.lm.head_dim = 14; }},
    {"QkvBiases", [](VlmConfig& c) { c.lm.qkv_bias = true; }},
    {"BiasesAndLora",
     [](VlmConfig& c) {
       c.lm.qkv_bias = c.lm.out_bias = c.lm.mlp_bias = true;
       c.lang_lora = language_rig::lora("model.layers.");
     }},
    {"Window", [](VlmConfig& c) { c.lm.sliding_window = 5; }},
    {"WindowOfUpperLayersInMmca",
     [](VlmConfig& c) {
       c.mmca = true;
       c.lm.sliding_window = 6;
       c.lm.window_layers = {0, 1};
     }},
    {"Lora",
     [](VlmConfig& c) {
       c.lang_lora = language_rig::lora("model.layers.");
       c.vis_lora = language_rig::lora("encoder.layers.");
     }},
    {"LoraOnSomeLinears", [](VlmConfig& c) { c.lang_lora = language_rig::lora("k_proj"); }},
    {"Mmca", [](VlmConfig& c) { c.mmca = true; }},
    {"CompatibleMmca",
     [](VlmConfig& c) {
       c.mmca = true;
       c.compat_visualchat = true;
     }},
    {"StretchedRope",
     [](VlmConfig& c) {
       c.lm.max_position_embeddings = 8;
       c.lm.rope_scaling.type = RopeScaling::Type::kDynamic;
       c.lm.rope_scaling.factor = 3;
     }},
    {"RecomputeInSmallChunks",
     [](VlmConfig& c) {
       c.recompute = true;
       c.lang_lora = language_rig::lora("layers.1.");
       c.max_labelled_rows_per_chunk = 4;
     }},
};

class Vlm : public testing::TestWithParam<Variant> {
 protected:
  static VlmConfig config() {
    VlmConfig config = language_rig::small_config();
    GetParam().change(config);
    return config;
  }
};

INSTANTIATE_TEST_SUITE_P(Variants, Vlm, testing::ValuesIn(kVariants),
                         [](const auto& info) { return info.param.name; });

TEST_P(Vlm, LogitsAndLossesAreThoseOfTheReference) {
  Rig rig(config(), "", 2);
  const MicroBatch batch = language_rig::mixed_batch(rig.config);
  DepartureScores departure;
  const auto expected = language_reference::run(rig.params, rig.config, batch, departure);
  EXPECT_LE(vision_rig::relative_error(rig.logits(batch), expected.logits.a), 3e-6);
  LossSums evaluated;
  rig.model.evaluate(rig.ctx, batch, evaluated);
  const LossSums trained = rig.train(batch);
  ASSERT_EQ(trained.loss.size(), 3u);
  for (size_t b = 0; b < 3; ++b) {
    EXPECT_NEAR(trained.loss[b] / expected.loss_of_sample[b], 1, 3e-6) << "sample " << b;
    EXPECT_NEAR(evaluated.loss[b] / expected.loss_of_sample[b], 1, 3e-6) << "sample " << b;
  }
  EXPECT_EQ(trained.labelled, (std::vector<int64_t>{4, 4, 4}));
  EXPECT_EQ(evaluated.labelled, trained.labelled);
}

// The longest sample has 18 positions, padded 24.
TEST(DynamicRopeInCompat, StretchesEverySampleByThePaddedLengthOfTheBatch) {
  const auto logits_of = [](int64_t max_positions, RopeScaling::Type type, double theta) {
    VlmConfig config = language_rig::small_config();
    config.compat_visualchat = true;
    config.lm.max_position_embeddings = max_positions;
    config.lm.rope_scaling = {.type = type, .factor = 3};
    config.lm.rope_theta = theta;
    Rig rig(config, "");
    return rig.logits(language_rig::mixed_batch(config));
  };
  const double theta = 10000;
  const auto plain = logits_of(20, RopeScaling::Type::kNone, theta);
  EXPECT_EQ(logits_of(24, RopeScaling::Type::kDynamic, theta), plain);
  const double stretched = theta * std::pow(3 * 24.0 / 20 - 2, 8.0 / 6);
  EXPECT_EQ(logits_of(20, RopeScaling::Type::kDynamic, theta),
            logits_of(20, RopeScaling::Type::kNone, stretched));
  EXPECT_NE(logits_of(20, RopeScaling::Type::kDynamic, theta), plain);
}

TEST_P(Vlm, GradientsAreSlopesOfTheReference) {
  Rig rig(config(), "", 2);
  const MicroBatch batch = language_rig::mixed_batch(rig.config);
  constexpr double kScale = 0.5;
  rig.train(batch, static_cast<float>(kScale));
  DepartureScores departure;
  departure.record();
  language_reference::run(rig.params, rig.config, batch, departure);
  vision_rig::expect_gradients(vision_rig::trained_gradients(rig.table, rig.params), 1, [&] {
    departure.replay();
    return kScale * language_reference::run(rig.params, rig.config, batch, departure).loss;
  });
}

}  // namespace
}  // namespace facet
