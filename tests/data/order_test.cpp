#include "data/order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "fake_data.h"

namespace facet {
namespace {

using Sample = std::pair<int32_t, std::vector<int32_t>>;  // data set, records

std::vector<Sample> samples_of(const SampleTable& table, Split split) {
  std::vector<Sample> samples;
  for (int64_t i = 0; i < table.num_samples(split); ++i) {
    const auto records = table.records_of(split, i);
    samples.emplace_back(table.dataset_of(split, i),
                         std::vector<int32_t>(records.begin(), records.end()));
  }
  return samples;
}

std::vector<Sample> all_samples(const SampleTable& table) {
  std::vector<Sample> samples = samples_of(table, Split::kTraining);
  for (const Sample& sample : samples_of(table, Split::kEvaluation)) samples.push_back(sample);
  return samples;
}

TEST(SampleTable, SplitsEveryRecordOnceIntoTrainingAndEvaluation) {
  const Datasets datasets = fake_datasets({{"a", 97}, {"b", 7}});
  const SampleTable table(datasets, {{}, {}}, 0.9, 1);
  EXPECT_EQ(table.num_samples(Split::kTraining), 93);  // int(104 * 0.9)
  EXPECT_EQ(table.num_samples(Split::kEvaluation), 11);
  const std::vector<Sample> samples = all_samples(table);
  const std::set<Sample> distinct(samples.begin(), samples.end());
  EXPECT_EQ(distinct.size(), 104u);
  EXPECT_EQ(std::count_if(samples.begin(), samples.end(), [](auto& s) { return s.first == 1; }), 7);
}

TEST(SampleTable, BlendsTheDataSets) {
  const Datasets datasets = fake_datasets({{"a", 500}, {"b", 500}});
  const SampleTable table(datasets, {{}, {}}, 1, 1);
  int in_first_half = 0;
  for (int64_t i = 0; i < 500; ++i) in_first_half += table.dataset_of(Split::kTraining, i);
  EXPECT_NEAR(in_first_half, 250, 60);
}

TEST(SampleTable, ConcatenatesOneToThreeRecordsEquallyOftenAndLosesNone) {
  const Datasets datasets = fake_datasets({{"a", 3000}});
  const SampleTable table(datasets, {{DatasetRequest::kAllSamples, 3}}, 0.5, 1);
  std::map<size_t, int> sizes;
  std::vector<int32_t> seen;
  for (const Sample& sample : all_samples(table)) {
    ++sizes[sample.second.size()];
    seen.insert(seen.end(), sample.second.begin(), sample.second.end());
  }
  EXPECT_FALSE(std::is_sorted(seen.begin(), seen.end()));
  std::sort(seen.begin(), seen.end());
  std::vector<int32_t> expected(3000);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(seen, expected);
  ASSERT_EQ(sizes.size(), 3u);
  for (const auto& [size, count] : sizes) EXPECT_NEAR(count, 500, 75) << size;
}

TEST(SampleTable, AConcatenatedSampleHoldsTheRoundsOfItsRecordsInOrder) {
  const Datasets datasets = fake_datasets({{"a", 40}});
  const SampleTable table(datasets, {{DatasetRequest::kAllSamples, 4}}, 1, 3);
  for (int64_t i = 0; i < table.num_samples(Split::kTraining); ++i) {
    const RawSample sample = table.read(Split::kTraining, i, 0);
    const auto records = table.records_of(Split::kTraining, i);
    ASSERT_EQ(sample.rounds.size(), records.size());
    EXPECT_EQ(sample.num_images(), static_cast<int64_t>(records.size()));
    for (size_t r = 0; r < records.size(); ++r)
      EXPECT_EQ(sample.rounds[r].question, "a " + std::to_string(records[r]));
  }
}

TEST(SampleTable, DrawsTheAskedNumberOfGroupsWithoutReplacement) {
  const Datasets datasets = fake_datasets({{"a", 1000}, {"b", 5}});
  const SampleTable table(datasets, {{100, 2}, {100, 1}}, 1, 1);
  std::set<int32_t> seen;
  size_t records = 0;
  std::map<int32_t, int> groups;
  for (const auto& [dataset, members] : all_samples(table)) {
    ++groups[dataset];
    if (dataset != 0) continue;
    seen.insert(members.begin(), members.end());
    records += members.size();
  }
  EXPECT_EQ(groups[0], 100);
  EXPECT_EQ(groups[1], 5);
  EXPECT_EQ(seen.size(), records);
  EXPECT_GT(*seen.rbegin(), 800);  // not merely the first ones
}

TEST(SampleTable, IsAFunctionOfTheSeed) {
  const Datasets datasets = fake_datasets({{"a", 50}});
  const SampleTable one(datasets, {{20, 2}}, 0.9, 1), same(datasets, {{20, 2}}, 0.9, 1),
      other(datasets, {{20, 2}}, 0.9, 2);
  EXPECT_EQ(all_samples(one), all_samples(same));
  EXPECT_NE(all_samples(one), all_samples(other));
  EXPECT_EQ(one.fingerprint(), same.fingerprint());
  EXPECT_NE(one.fingerprint(), other.fingerprint());
}

TEST(SampleTable, FingerprintSeesFilesSplitAndChoice) {
  const Datasets datasets = fake_datasets({{"a", 50}}), longer = fake_datasets({{"a", 51}});
  const uint64_t fingerprint = SampleTable(datasets, {{}}, 0.9, 1).fingerprint();
  EXPECT_NE(fingerprint, SampleTable(longer, {{}}, 0.9, 1).fingerprint());
  EXPECT_NE(fingerprint, SampleTable(datasets, {{}}, 0.8, 1).fingerprint());
  EXPECT_NE(fingerprint, SampleTable(datasets, {{49, 1}}, 0.9, 1).fingerprint());
}

TEST(SampleTable, AnotherDataSetDoesNotChangeTheGroupsOfTheFirst) {
  const Datasets alone = fake_datasets({{"a", 60}}), both = fake_datasets({{"b", 9}, {"a", 60}});
  std::set<std::vector<int32_t>> groups, groups_beside;
  for (const auto& sample : all_samples(SampleTable(alone, {{10, 3}}, 1, 1)))
    groups.insert(sample.second);
  for (const auto& sample : all_samples(SampleTable(both, {{}, {10, 3}}, 1, 1)))
    if (sample.first == 1) groups_beside.insert(sample.second);
  EXPECT_EQ(groups, groups_beside);
}

TEST(SampleTable, DrawsChangeWithEpochSampleAndSplitOnly) {
  const Datasets datasets = fake_datasets({{"a", 50}});
  const SampleTable table(datasets, {{}}, 0.5, 1);
  const auto answer = [&](Split split, int64_t sample, int64_t epoch) {
    return table.read(split, sample, epoch).rounds[0].answer;
  };
  const std::string first = answer(Split::kTraining, 3, 2);
  EXPECT_EQ(first, answer(Split::kTraining, 3, 2));
  EXPECT_NE(first, answer(Split::kTraining, 3, 1));
  EXPECT_NE(first, answer(Split::kTraining, 4, 2));
  EXPECT_NE(first, answer(Split::kEvaluation, 3, 2));
}

TEST(SampleTable, RefusesWhatCannotBe) {
  Datasets several;
  several.push_back(std::make_unique<FakeDataset>("several", 10, 2));
  EXPECT_NO_THROW(SampleTable(several, {{}}, 1, 1));
  EXPECT_THROW(SampleTable(several, {{DatasetRequest::kAllSamples, 2}}, 1, 1), Error);
  EXPECT_THROW(SampleTable(fake_datasets({{"a", 5}, {"a", 5}}), {{}, {}}, 1, 1), Error);
  EXPECT_THROW(SampleTable(fake_datasets({{"a", 0}}), {{}}, 1, 1), Error);
  EXPECT_THROW(SampleTable(fake_datasets({{"a", 1}}), {{}}, 0.9, 1), Error);  // nothing to train on
  EXPECT_THROW(SampleTable(fake_datasets({{"a", 5}}), {{0, 1}}, 0.9, 1), Error);
  EXPECT_THROW(SampleTable(fake_datasets({{"a", 5}}), {{}}, 1.5, 1), Error);
}

TEST(EpochPermutation, HoldsEverySampleOnceAndChangesWithTheEpoch) {
  std::vector<int64_t> order = epoch_permutation(97, 1, 0);
  EXPECT_NE(order, epoch_permutation(97, 1, 1));
  EXPECT_NE(order, epoch_permutation(97, 2, 0));
  std::sort(order.begin(), order.end());
  for (int64_t i = 0; i < 97; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

// The positions of a step in the order (micro-batch, rank).
std::vector<int64_t> positions_of(const BatchPlan& plan, int64_t step) {
  std::vector<int64_t> all;
  for (int64_t m = 0; m < plan.micro_batches_of(step); ++m)
    for (int64_t rank = 0; rank < plan.ranks; ++rank) {
      const auto [begin, end] = plan.positions(step, m, rank);
      EXPECT_LE(end - begin, plan.per_device);
      for (int64_t i = begin; i < end; ++i) all.push_back(i);
    }
  return all;
}

TEST(BatchPlan, EveryStepHasTheSamePositionsOnAnyNumberOfRanks) {
  for (const int64_t n : {1, 6, 7, 12, 97, 257}) {
    const BatchPlan one{n, 6, 1, 2}, two{n, 3, 2, 2}, three{n, 2, 3, 2}, six{n, 1, 1, 12};
    ASSERT_EQ(one.num_steps(), (n + 11) / 12);
    for (const BatchPlan& plan : {one, two, three, six}) {
      ASSERT_EQ(plan.num_steps(), one.num_steps());
      for (int64_t step = 0; step < plan.num_steps(); ++step) {
        std::vector<int64_t> expected;
        for (int64_t i = 12 * step; i < std::min<int64_t>(n, 12 * step + 12); ++i)
          expected.push_back(i);
        EXPECT_EQ(positions_of(plan, step), expected)
            << n << " samples, " << plan.ranks << " ranks";
      }
    }
  }
}

TEST(BatchPlan, TheLastStepHasFewerMicroBatches) {
  const BatchPlan plan{25, 2, 3, 2};  // global batch 12; one sample is left for the third step
  EXPECT_EQ(plan.num_micro_batches(), 5);
  EXPECT_EQ(plan.num_steps(), 3);
  EXPECT_EQ(plan.micro_batches_of(1), 2);
  EXPECT_EQ(plan.micro_batches_of(2), 1);
  EXPECT_EQ(plan.positions(2, 0, 0).end - plan.positions(2, 0, 0).begin, 1);
  EXPECT_EQ(plan.positions(2, 0, 2).end - plan.positions(2, 0, 2).begin, 0);
}

}  // namespace
}  // namespace facet
