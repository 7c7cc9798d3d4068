// The composed model with parameters and activations of 16 bits: as near to fp32 as its roundings
// allow, the same bits with recompute, half the memory, and nothing allocated in a step.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/model/allocation_counter.h"
#include "tests/model/half_rig.h"

namespace facet {
namespace {

using half_rig::HalfRig;
using language_rig::kImage;
using language_rig::mixed_batch;
using language_rig::small_config;

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::vector<double> doubles(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

VlmConfig mmca_config() {
  VlmConfig config = small_config();
  config.mmca = true;
  config.image_size = 9;  // positions are resized
  config.lang_lora = language_rig::lora("model.layers.");
  return config;
}

VlmConfig tied_vit_config() {
  VlmConfig config = small_config();
  config.projection = ProjectionKind::kVit;
  config.drop_class_token = true;
  config.lm.tie_word_embeddings = true;
  config.max_labelled_rows_per_chunk = 3;
  return config;
}

VlmConfig perceiver_config() {
  VlmConfig config = small_config();
  config.projection = ProjectionKind::kPerceiver;
  config.compat_visualchat = true;  // positions are trained
  config.lm.hidden_size = 128;
  config.lm.max_position_embeddings = 1024;
  return config;
}

VlmConfig mlp_config() {
  VlmConfig config = small_config();
  config.projection = ProjectionKind::kMlp;
  config.vision_feature_layer = -2;
  return config;
}

class HalfModel : public testing::TestWithParam<DType> {
 protected:
  static double epsilon() { return GetParam() == DType::kBF16 ? 0x1p-8 : 0x1p-11; }
};

// In units of epsilon, the largest relative error of one rounding. Measured over the configurations
// below, in both types: 0.30 of the loss, 5.1 of the gradient's norm.
TEST_P(HalfModel, IsAsNearToFp32AsItsRoundingsAllow) {
  constexpr double kLoss = 0.6, kGradient = 8;
  for (const VlmConfig& config :
       {small_config(), mmca_config(), tied_vit_config(), perceiver_config(), mlp_config()}) {
    const MicroBatch batch = mixed_batch(config);
    HalfRig exact(config, DType::kF32, GetParam()), half(config, GetParam());
    const LossSums expected = exact.train(batch), actual = half.train(batch);
    EXPECT_EQ(actual.labelled, expected.labelled);
    EXPECT_NEAR(actual.total_loss() / expected.total_loss(), 1, kLoss * epsilon());
    EXPECT_NE(actual.total_loss(), expected.total_loss());
    const double error =
        vision_rig::relative_error(half.gradients(), doubles(exact.gradients())) / epsilon();
    EXPECT_LE(error, kGradient);
    EXPECT_EQ(half.arena.used(), 0);
  }
}

TEST_P(HalfModel, RecomputeGivesEqualBits) {
  for (VlmConfig config : {mmca_config(), tied_vit_config()}) {
    const MicroBatch batch = mixed_batch(config);
    HalfRig plain(config, GetParam());
    config.recompute = true;
    HalfRig saving(config, GetParam());
    const LossSums a = plain.train(batch), b = saving.train(batch);
    EXPECT_EQ(a.loss, b.loss);
    EXPECT_TRUE(same_bits(plain.gradients(), saving.gradients()));
    EXPECT_LT(saving.arena.peak(), plain.arena.peak());
  }
}

TEST_P(HalfModel, EqualRunsGiveEqualBits) {
  const VlmConfig config = mmca_config();
  const MicroBatch batch = mixed_batch(config);
  HalfRig first(config, GetParam()), second(config, GetParam());
  EXPECT_EQ(first.train(batch).loss, second.train(batch).loss);
  EXPECT_TRUE(same_bits(first.gradients(), second.gradients()));
}

TEST_P(HalfModel, ActivationsTakeHalfTheMemory) {
  VlmConfig config = small_config();
  config.lm.num_hidden_layers = 8;
  config.lm.intermediate_size = 500;  // large compared with what stays fp32
  const MicroBatch batch = mixed_batch(config);
  const half_rig::Measured exact = half_rig::measure(config, DType::kF32, batch);
  const half_rig::Measured half = half_rig::measure(config, GetParam(), batch);
  EXPECT_LE(static_cast<double>(half.activations), 0.55 * static_cast<double>(exact.activations));
  EXPECT_EQ(exact.panels, 0);
  EXPECT_GT(half.panels, 0);
}

TEST_P(HalfModel, ADryRunMeasuresArenaAndPanels) {
  for (VlmConfig config : {mmca_config(), tied_vit_config(), perceiver_config()}) {
    for (const bool recompute : {false, true}) {
      config.recompute = recompute;
      const MicroBatch batch = mixed_batch(config);
      const half_rig::Measured measured = half_rig::measure(config, GetParam(), batch);
      HalfRig rig(config, GetParam());
      rig.train(batch);
      EXPECT_EQ(rig.arena.peak(), measured.activations);
      EXPECT_EQ(rig.ops.panel_bytes(), measured.panels);
    }
  }
}

TEST_P(HalfModel, TheSecondStepAllocatesNothing) {
  const VlmConfig config = mmca_config();
  const MicroBatch batch = mixed_batch(config);
  HalfRig rig(config, GetParam());
  LossSums sums;
  const auto step = [&] {
    rig.model.forward_backward(rig.ctx, batch, 1, sums);
    rig.model.evaluate(rig.ctx, batch, sums);
  };
  step();
  const int64_t before = allocation_counter::count();
  step();
  EXPECT_EQ(allocation_counter::count() - before, 0);
}

// A loss scale that is too large must show in the fp32 gradients, not be clamped away.
TEST(HalfModelOverflow, OfFp16ReachesTheGradients) {
  const VlmConfig config = small_config();
  const MicroBatch batch = mixed_batch(config);
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    HalfRig rig(config, dtype);
    const LossSums sums = rig.train(batch, 0x1p20f);
    EXPECT_TRUE(std::isfinite(sums.total_loss()));
    const std::vector<float> gradients = rig.gradients();
    const bool finite =
        std::all_of(gradients.begin(), gradients.end(), [](float g) { return std::isfinite(g); });
    EXPECT_EQ(finite, dtype == DType::kBF16) << name_of(dtype);
  }
}

// A power of two as loss scale changes no bit but the exponents, as long as nothing overflows or
// falls below what the type holds.
TEST(HalfModelScale, APowerOfTwoChangesExponentsOnly) {
  const VlmConfig config = mmca_config();
  const MicroBatch batch = mixed_batch(config);
  HalfRig plain(config, DType::kBF16), scaled(config, DType::kBF16);
  plain.train(batch, 1);
  scaled.train(batch, 0x1p10f);
  std::vector<float> gradients = scaled.gradients();
  for (float& g : gradients) g *= 0x1p-10f;
  EXPECT_TRUE(same_bits(gradients, plain.gradients()));
}

// Decoding row by row against all rows at once: fp32 sums in another order, now and then another
// word.
TEST_P(HalfModel, TheCacheEqualsRecomputing) {
  const VlmConfig config = mmca_config();
  HalfRig rig(config, GetParam(), "default");
  MicroBatch piece, whole;
  const std::vector<int32_t> ids = {1, 5, kImage, 6, 7};
  language_rig::add_sample(piece, config, ids, ids.size(), "x");
  std::vector<int32_t> all_ids = ids;
  all_ids.push_back(12);
  language_rig::add_sample(whole, config, all_ids, all_ids.size(), "x");
  VisionLanguageModel::Decoding decoding(rig.model, rig.ctx, 60);
  decoding.append(piece);
  const std::vector<float> cached = decoding.append_token(12), all = rig.logits(whole);
  const std::vector<double> last(all.end() - config.lm.vocab_size, all.end());
  EXPECT_LE(vision_rig::relative_error(cached, last), epsilon());
}

INSTANTIATE_TEST_SUITE_P(Types, HalfModel, testing::Values(DType::kBF16, DType::kF16),
                         [](const auto& info) { return std::string(name_of(info.param)); });

}  // namespace
}  // namespace facet
