// The stages of ZeRO on a small composed model give the same bits. Run with 1, 2, 3 and 4 ranks
// (scripts/run_tests.sh).
#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>

#include "tests/zero/stage_rig.h"

namespace facet {
namespace {

using namespace stage_rig;

class Stages : public testing::TestWithParam<std::tuple<bool, bool>> {};  // all trained, recompute

TEST_P(Stages, EqualBitsWhenTheyReduceEveryMicroBatch) {
  const auto [all_trained, recompute] = GetParam();
  VlmConfig config = all_trained ? full_config() : lora_config();
  config.recompute = recompute;
  const Result expected = run(config, all_trained, options_of(0, true), 3);
  EXPECT_LT(*std::max_element(expected.clip_factors.begin(), expected.clip_factors.end()), 1);
  EXPECT_NE(expected.losses.front(), expected.losses.back());
  for (const int64_t stage : {1, 2, 3})
    expect_same(run(config, all_trained, options_of(stage, true), 3), expected,
                fmt::format("stage {}", stage));
  // Small parameters are persistent; 200 elements are between those of a block.
  EngineOptions options = options_of(3, true, 200);
  expect_same(run(config, all_trained, options, 3), expected, "threshold");
  options.stage3.residency = {12000, 1000000};
  expect_same(run(config, all_trained, options, 3), expected, "prefetch");
}

TEST_P(Stages, EqualBitsWithOneMicroBatch) {
  const auto [all_trained, recompute] = GetParam();
  VlmConfig config = all_trained ? full_config() : lora_config();
  config.recompute = recompute;
  const Result expected = run(config, all_trained, options_of(0, false), 1);
  for (const int64_t stage : {1, 2, 3})
    expect_same(run(config, all_trained, options_of(stage, false), 1), expected,
                fmt::format("stage {}", stage));
}

TEST_P(Stages, ZeroAndOneAreEqualWhenTheyReduceOnceAStep) {
  const auto [all_trained, recompute] = GetParam();
  VlmConfig config = all_trained ? full_config() : lora_config();
  config.recompute = recompute;
  const Result once = run(config, all_trained, options_of(0, false), 3);
  expect_same(run(config, all_trained, options_of(1, false), 3), once, "stage 1");
  // The sums are the same but for rounding however often they are formed.
  const Result every = run(config, all_trained, options_of(0, true), 3);
  for (size_t s = 0; s < once.norms.size(); ++s) {
    EXPECT_NEAR(every.norms[s], once.norms[s], 1e-4 * once.norms[s]);
    EXPECT_NEAR(every.losses[s], once.losses[s], 1e-4 * once.losses[s]);
  }
}

INSTANTIATE_TEST_SUITE_P(FullAndLora, Stages, testing::Combine(testing::Bool(), testing::Bool()));

// What a unit's owner loads is what all see and step on, at every stage.
TEST(StagesState, ALoadedStateContinuesTheRunAtAnotherStage) {
  Result expected;
  StageRig first(full_config(), true, options_of(0, true));
  first.train(2, 2, expected);
  Result middle;
  first.collect(middle);
  first.train(1, 2, expected);  // plays its first batches again, as the others do
  first.collect(expected);
  for (const int64_t stage : {0, 1, 2, 3}) {
    StageRig second(full_config(), true, options_of(stage, true, 1000));
    for (const StateRange& range : second.engine->owned_state()) {
      const int64_t place = place_of(second.table, range);
      std::copy_n(middle.values.begin() + place, range.count, range.value);
      std::copy_n(middle.exp_avg.begin() + place, range.count, range.exp_avg);
      std::copy_n(middle.exp_avg_sq.begin() + place, range.count, range.exp_avg_sq);
    }
    second.engine->set_optimizer_steps(2);
    second.engine->publish_state();
    Result continued;
    second.train(1, 2, continued);
    second.collect(continued);
    EXPECT_EQ(continued.losses.back(), expected.losses.back()) << "stage " << stage;
    EXPECT_TRUE(same_bits(continued.values, expected.values)) << "stage " << stage;
    EXPECT_TRUE(same_bits(continued.exp_avg, expected.exp_avg)) << "stage " << stage;
    EXPECT_TRUE(same_bits(continued.exp_avg_sq, expected.exp_avg_sq)) << "stage " << stage;
  }
}

}  // namespace
}  // namespace facet
