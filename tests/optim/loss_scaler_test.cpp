// The loss scale step for step. The expected tables are written out by hand from docs/computes.md,
// "Loss scale", as runs of equal steps: how many, whether they overflow, and the scale that each of
// them was computed with.
#include "optim/loss_scaler.h"

#include <gtest/gtest.h>

#include <vector>

namespace facet {
namespace {

struct Steps {
  int steps;
  bool overflow;
  double scale;
};

void expect_scales(LossScaler& scaler, const std::vector<Steps>& runs) {
  int step = 0;
  for (const Steps& run : runs)
    for (int i = 0; i < run.steps; ++i) {
      ASSERT_EQ(scaler.scale(), run.scale) << "step " << ++step;
      run.overflow ? scaler.overflow() : scaler.good_step();
    }
}

constexpr bool kGood = false, kOverflow = true;

TEST(LossScaler, TheFirstGrowthIsAtStep100) {
  LossScaler scaler({});
  expect_scales(scaler, {{100, kGood, 65536}, {100, kGood, 131072}, {1, kGood, 262144}});
}

TEST(LossScaler, TheFirstOverflowOnlyTakesFromTheHysteresis) {
  LossScaler scaler({});
  expect_scales(scaler, {{1, kOverflow, 65536},  // h = 1
                         {1, kOverflow, 65536},  // halved
                         {1, kGood, 32768},
                         {1, kOverflow, 32768},  // neither halving nor a good step refilled h
                         {1, kOverflow, 16384},
                         {100, kGood, 8192},     // growth: h = 2
                         {1, kOverflow, 16384},  // h = 1
                         {1, kOverflow, 16384},  // halved
                         {1, kOverflow, 8192},
                         {1, kGood, 4096}});
}

TEST(LossScaler, AnOverflowRestartsTheWindowWhetherItHalvesOrNot) {
  LossScaler scaler({});
  expect_scales(scaler, {{99, kGood, 65536},
                         {1, kOverflow, 65536},  // h = 1: the 99 are forgotten
                         {99, kGood, 65536},
                         {1, kOverflow, 65536},  // halved: forgotten again
                         {100, kGood, 32768},
                         {99, kGood, 65536},
                         {1, kOverflow, 65536},  // h was 2 since the growth
                         {100, kGood, 65536},
                         {1, kGood, 131072}});
}

TEST(LossScaler, EndsAtTheMinimum) {
  LossScalerOptions options;
  options.initial_scale = 4;
  options.hysteresis = 3;
  options.window = 2;
  LossScaler scaler(options);
  expect_scales(scaler, {{3, kOverflow, 4}, {1, kOverflow, 2}});
  EXPECT_TRUE(scaler.exhausted());
  expect_scales(scaler, {{1, kOverflow, 1}, {2, kGood, 1}});
  EXPECT_FALSE(scaler.exhausted());  // it grew
  expect_scales(scaler, {{3, kOverflow, 2}});
  EXPECT_TRUE(scaler.exhausted());
}

TEST(LossScaler, HysteresisCountsAtTheMinimumToo) {
  LossScalerOptions options;
  options.initial_scale = 1;
  LossScaler scaler(options);
  EXPECT_FALSE(scaler.exhausted());
  scaler.overflow();
  EXPECT_TRUE(scaler.exhausted());
}

TEST(LossScaler, AMinimumThatNoHalvingMeets) {
  LossScalerOptions options;
  options.initial_scale = 100;
  options.hysteresis = 1;
  options.min_scale = 30;
  LossScaler scaler(options);
  expect_scales(scaler, {{1, kOverflow, 100}, {1, kOverflow, 50}, {1, kOverflow, 30}});
  EXPECT_TRUE(scaler.exhausted());
}

TEST(LossScaler, AFixedScaleStays) {
  LossScalerOptions options;
  options.fixed_scale = 128;
  LossScaler scaler(options);
  expect_scales(scaler, {{300, kGood, 128}, {9, kOverflow, 128}});
  EXPECT_FALSE(scaler.exhausted());
  scaler.restore({4, 1, 7});
  EXPECT_EQ(scaler.scale(), 128);
}

TEST(LossScaler, ContinuesFromItsState) {
  LossScaler whole({}), first({}), second({});
  const std::vector<Steps> before = {{50, kGood, 65536}, {1, kOverflow, 65536}, {60, kGood, 65536}};
  expect_scales(whole, before);
  expect_scales(first, before);
  second.restore(first.state());
  whole.overflow();
  second.overflow();
  EXPECT_EQ(whole.scale(), 32768);
  EXPECT_EQ(second.scale(), 32768);
  second.restore(first.state());
  expect_scales(second, {{40, kGood, 65536}, {2, kOverflow, 131072}, {1, kGood, 65536}});
}

}  // namespace
}  // namespace facet
