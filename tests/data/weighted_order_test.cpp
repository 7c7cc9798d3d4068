#include "data/weighted_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "data/order.h"
#include "fake_data.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

WeightedSet set_of(const std::string& name, double weight, int64_t first, int64_t count) {
  WeightedSet set{name, weight, std::vector<int64_t>(static_cast<size_t>(count))};
  std::iota(set.samples.begin(), set.samples.end(), first);
  return set;
}

int64_t count_below(const std::vector<int64_t>& order, int64_t end) {
  return std::count_if(order.begin(), order.end(), [&](int64_t sample) { return sample < end; });
}

TEST(WeightedOrder, SharesAddUpWithTheLargestRemainders) {
  EXPECT_EQ(shares_of({1, 1}, 10), (std::vector<int64_t>{5, 5}));
  EXPECT_EQ(shares_of({1, 1, 1}, 10), (std::vector<int64_t>{4, 3, 3}));
  EXPECT_EQ(shares_of({0.7, 0.2, 0.1}, 11), (std::vector<int64_t>{8, 2, 1}));
  EXPECT_EQ(shares_of({2e5, 1e-6}, 7), (std::vector<int64_t>{7, 0}));
}

TEST(WeightedOrder, AnEpochHasTheSharesWhateverTheSizes) {
  const std::vector<WeightedSet> sets = {set_of("small", 3, 0, 10), set_of("large", 1, 10, 90)};
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    const std::vector<int64_t> order = weighted_epoch(sets, 7, epoch);
    EXPECT_EQ(order.size(), 100U);
    EXPECT_EQ(count_below(order, 10), 75);
    EXPECT_EQ(order, weighted_epoch(sets, 7, epoch));
    EXPECT_NE(order, weighted_epoch(sets, 7, epoch + 1));
    EXPECT_NE(order, weighted_epoch(sets, 8, epoch));
  }
}

// Over the epochs a set's samples are used equally often, but for one pass that has begun.
TEST(WeightedOrder, NoSampleIsUsedAgainBeforeAllHaveBeen) {
  const std::vector<WeightedSet> sets = {set_of("a", 3, 0, 10), set_of("b", 1, 10, 90)};
  std::map<int64_t, int64_t> uses;
  for (int64_t epoch = 0; epoch < 7; ++epoch) {
    for (const int64_t sample : weighted_epoch(sets, 7, epoch)) ++uses[sample];
    int64_t least[2] = {INT64_MAX, INT64_MAX}, most[2] = {0, 0};
    for (int64_t sample = 0; sample < 100; ++sample) {
      const int set = sample < 10 ? 0 : 1;
      least[set] = std::min(least[set], uses[sample]);
      most[set] = std::max(most[set], uses[sample]);
    }
    EXPECT_LE(most[0] - least[0], 1) << "epoch " << epoch;
    EXPECT_LE(most[1] - least[1], 1) << "epoch " << epoch;
  }
}

TEST(WeightedOrder, ASetThatGetsNothingIsAnError) {
  for (const auto& sets : {std::vector{set_of("a", 1e6, 0, 10), set_of("b", 1, 10, 10)},
                           std::vector{set_of("b", 1, 0, 0), set_of("a", 1, 0, 10)}})
    EXPECT_TRUE(mentions(error_of([&] { weighted_epoch(sets, 1, 0); }), "78: data set b"));
}

TEST(WeightedOrder, TheTableBlendsItsTrainingSplit) {
  const Datasets datasets = fake_datasets({{"a", 20}, {"b", 180}});
  const SampleTable by_size(datasets, {{}, {}}, 0.9, 3);
  const SampleTable weighted(datasets, {{-1, 1, 1}, {-1, 1, 1}}, 0.9, 3);
  const SampleTable otherwise(datasets, {{-1, 1, 1}, {-1, 1, 2}}, 0.9, 3);
  EXPECT_EQ(by_size.epoch_order(2), epoch_permutation(180, 3, 2));
  const std::vector<int64_t> order = weighted.epoch_order(2);
  EXPECT_EQ(std::count_if(order.begin(), order.end(),
                          [&](int64_t s) { return weighted.dataset_of(Split::kTraining, s) == 0; }),
            90);
  EXPECT_NE(weighted.fingerprint(), by_size.fingerprint());
  EXPECT_NE(weighted.fingerprint(), otherwise.fingerprint());
}

}  // namespace
}  // namespace facet
