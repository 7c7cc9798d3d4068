// How the samples of a step are dealt to ranks and packed into micro-batches.
#include "data/token_batches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/rng.h"

namespace facet {
namespace {

// Many short samples and a few long ones, whose work grows faster than their length.
std::vector<SampleCost> skewed(int64_t count, uint64_t seed) {
  RandomStream draws(seed, "skewed");
  std::vector<SampleCost> samples;
  for (int64_t i = 0; i < count; ++i) {
    const auto below = static_cast<int64_t>(draws.below(12) == 0 ? 2000 : 150);
    const auto rows = 20 + static_cast<int64_t>(draws.below(static_cast<uint64_t>(below)));
    samples.push_back({rows, rows * 1000 + rows * rows});
  }
  return samples;
}

int64_t sum_of(const std::vector<SampleCost>& samples, const std::vector<int64_t>& list,
               int64_t SampleCost::*member) {
  int64_t sum = 0;
  for (const int64_t i : list) sum += samples[static_cast<size_t>(i)].*member;
  return sum;
}

int64_t work_of(const std::vector<SampleCost>& samples, const SampleLists& lists) {
  int64_t work = 0;
  for (const auto& list : lists) work += sum_of(samples, list, &SampleCost::work);
  return work;
}

TEST(DealSamples, EachSampleGoesToOneMicroBatchOfOneRank) {
  for (const int64_t count : {0, 1, 5, 64, 501}) {
    const std::vector<SampleCost> samples = skewed(count, 3);
    for (const int64_t ranks : {1, 2, 3, 8}) {
      const std::vector<SampleLists> dealt = deal_samples(samples, ranks, 1024);
      ASSERT_EQ(static_cast<int64_t>(dealt.size()), ranks);
      std::multiset<int64_t> seen;
      for (const SampleLists& lists : dealt) {
        EXPECT_EQ(lists.size(), dealt[0].size());  // they wait for each other in each
        for (const auto& list : lists) {
          EXPECT_TRUE(std::is_sorted(list.begin(), list.end()));
          seen.insert(list.begin(), list.end());
        }
      }
      EXPECT_EQ(static_cast<int64_t>(seen.size()), count);
      EXPECT_EQ(std::set<int64_t>(seen.begin(), seen.end()).size(), seen.size());
    }
  }
}

TEST(DealSamples, RanksDifferByAtMostFivePercentOnASkewedSet) {
  for (uint64_t seed = 0; seed < 50; ++seed)
    for (const int64_t ranks : {2, 3, 4, 8}) {
      const std::vector<SampleCost> samples = skewed(32 * ranks, seed);
      std::vector<int64_t> work;
      for (const SampleLists& lists : deal_samples(samples, ranks, 2048))
        work.push_back(work_of(samples, lists));
      const auto [low, high] = std::minmax_element(work.begin(), work.end());
      EXPECT_LE(*high - *low, *high / 20) << seed << ", " << ranks << " ranks";
    }
}

// The heaviest sample first gives 7 and 5; only an exchange finds 6 and 6.
TEST(DealSamples, AnExchangeNarrowsWhatTheFirstDealingLeaves) {
  const std::vector<SampleCost> samples = {{1, 3}, {1, 3}, {1, 2}, {1, 2}, {1, 2}};
  for (const SampleLists& lists : deal_samples(samples, 2, 100))
    EXPECT_EQ(work_of(samples, lists), 6);
}

TEST(DealSamples, AMicroBatchKeepsItsRowsUnlessOneSampleAloneHasMore) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const std::vector<SampleCost> samples = skewed(200, seed);
    int64_t total = 0, batches = 0;
    for (const SampleCost& sample : samples) total += sample.rows;
    for (const SampleLists& lists : deal_samples(samples, 2, 512))
      for (const auto& list : lists) {
        EXPECT_TRUE(list.size() <= 1 || sum_of(samples, list, &SampleCost::rows) <= 512);
        batches += !list.empty();
      }
    EXPECT_LE(batches, 2 * (total / 512) + 2);  // all but one of a rank are more than half full
  }
}

TEST(DealSamples, RanksBeginWithTheirHeaviestMicroBatch) {
  const std::vector<SampleCost> samples = skewed(200, 1);
  for (const SampleLists& lists : deal_samples(samples, 3, 700))
    EXPECT_TRUE(std::is_sorted(lists.begin(), lists.end(), [&](const auto& a, const auto& b) {
      return sum_of(samples, a, &SampleCost::work) > sum_of(samples, b, &SampleCost::work);
    }));
}

// Samples that turned out bad, and more ranks than samples.
TEST(DealSamples, SamplesWithoutCostAndRanksWithoutSamples) {
  const std::vector<SampleCost> samples = {{0, 0}, {4, 4}, {0, 0}};
  const std::vector<SampleLists> dealt = deal_samples(samples, 5, 8);
  size_t kept = 0;
  for (const SampleLists& lists : dealt)
    for (const auto& list : lists) kept += list.size();
  EXPECT_EQ(kept, 3u);
}

}  // namespace
}  // namespace facet
