// What becomes of each sample, counted by hand; the same on any number of ranks.
#include "data/sample_statistics.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "fake_data.h"

namespace facet {
namespace {

constexpr int64_t kImageTokens = 4;
constexpr int64_t kRound = kImageTokens + 2;  // tokens: an image, a record's number, an answer

// Drops the rounds that do not fit, as the real one does.
class BoundedBuilder : public FakeBuilder {
 public:
  explicit BoundedBuilder(int64_t max_length) : max_length_(max_length) {}

  void build(const RawSample&, PreparedSample&) const override { FAIL() << "an image is opened"; }
  void build_text(const RawSample& sample, PreparedSample& out) const override {
    CHECK(max_length_ >= kRound, ExitCode::kBadData, "too long");
    RawSample fitting = sample;
    const int64_t rounds = std::min(max_length_ / kRound, std::ssize(sample.rounds));
    fitting.rounds.resize(static_cast<size_t>(rounds));
    FakeBuilder::build_text(fitting, out);
  }

 private:
  int64_t max_length_;
};

// Data set a has samples of 1 to 3 records, b of one.
struct Rig {
  explicit Rig(int64_t max_length, int64_t uncut_length = 1000)
      : table(datasets, {{DatasetRequest::kAllSamples, 3}, {20, 1}}, 0.8, 7),
        builder(max_length),
        uncut(uncut_length) {
    for (const Split split : {Split::kTraining, Split::kEvaluation})
      for (int64_t sample = 0; sample < table.num_samples(split); ++sample)
        if (table.dataset_of(split, sample) == 0) ++groups[table.records_of(split, sample).size()];
  }
  // One of those drawn.
  int64_t record_of_b() const {
    int64_t sample = 0;
    while (table.dataset_of(Split::kTraining, sample) != 1) ++sample;
    return table.records_of(Split::kTraining, sample)[0];
  }

  // Of all ranks.
  std::vector<SetStatistics> count(int64_t ranks) {
    std::vector<SetStatistics> all(2);
    named.clear();
    for (int64_t rank = 0; rank < ranks; ++rank) {
      SampleStatistics statistics(table, builder, uncut, {max_images, kImageTokens, rank, ranks});
      const int64_t share = (statistics.num_items() - rank + ranks - 1) / ranks;
      for (int turn = 0; turn < 1000 && statistics.done() < share; ++turn) statistics.go_on(0.05);
      for (size_t d = 0; d < all.size(); ++d) all[d].add(statistics.sets()[d]);
      for (const BadItem& bad : statistics.named()) named.push_back(bad);
    }
    std::sort(named.begin(), named.end(),
              [](const BadItem& a, const BadItem& b) { return a.item < b.item; });
    return all;
  }

  Datasets datasets = fake_datasets({{"a", 60}, {"b", 37}});
  SampleTable table;
  BoundedBuilder builder, uncut;
  int64_t max_images = 3;
  std::map<size_t, int64_t> groups;  // of data set a: records -> samples
  std::vector<BadItem> named;
};

TEST(SampleStatistics, WholeAndCutSamplesByTheirLengthBeforeTheCut) {
  Rig rig(2 * kRound);
  ASSERT_GT(rig.groups[3], 0);
  for (const int64_t ranks : {1, 2, 5}) {
    const std::vector<SetStatistics> sets = rig.count(ranks);
    const int64_t one = rig.groups[1], two = rig.groups[2], three = rig.groups[3];
    EXPECT_EQ(sets[0].of(Fate::kWhole), one + two);
    EXPECT_EQ(sets[0].of(Fate::kCut), three);
    EXPECT_EQ(sets[0].samples(), one + two + three);
    EXPECT_EQ(sets[0].lengths, (Counts{{kRound, one}, {2 * kRound, two}, {3 * kRound, three}}));
    EXPECT_EQ(sets[0].images, (Counts{{1, one}, {2, two}, {3, three}}));
    EXPECT_EQ(sets[0].rows, kRound * (one + 2 * (two + three)));
    EXPECT_EQ(sets[0].labels, one + 2 * (two + three));
    EXPECT_EQ(sets[0].left_out() + sets[0].endless, 0);
    EXPECT_EQ(sets[1].lengths, (Counts{{kRound, 20}}));  // of those drawn
    EXPECT_TRUE(rig.named.empty());
  }
}

TEST(SampleStatistics, WhatIsLeftOutHasItsReasonAndTheFirstOnesTheirNames) {
  Rig rig(10 * kRound);
  rig.max_images = 2;
  dynamic_cast<FakeDataset&>(*rig.datasets[1]).empty_answer = rig.record_of_b();
  std::vector<BadItem> of_one_rank;
  for (const int64_t ranks : {1, 2, 5}) {
    const std::vector<SetStatistics> sets = rig.count(ranks);
    EXPECT_EQ(sets[0].of(Fate::kTooManyImages), rig.groups[3]);
    EXPECT_EQ(sets[0].left_out(), rig.groups[3]);
    EXPECT_EQ(sets[1].of(Fate::kEmptyAnswer), 1);
    EXPECT_EQ(sets[1].lengths, (Counts{{kRound, 19}}));
    // On each rank the first three of a: the first three of all are among them.
    EXPECT_GE(rig.named.size(), 4u);
    EXPECT_LE(rig.named.size(), static_cast<size_t>(3 * ranks + 1));
    EXPECT_EQ(rig.named.back().record.dataset, "b");
    EXPECT_EQ(rig.named.back().record.reason, "the answer of round 1 is empty");
    if (ranks == 1) of_one_rank = rig.named;
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(rig.named[i].item, of_one_rank[i].item);
  }
}

TEST(SampleStatistics, AFirstRoundThatDoesNotFitStillHasALength) {
  Rig rig(kRound - 1);
  const std::vector<SetStatistics> sets = rig.count(2);
  EXPECT_EQ(sets[1].of(Fate::kTooLong), 20);
  EXPECT_EQ(sets[1].lengths, (Counts{{kRound, 20}}));
  EXPECT_EQ(sets[1].rows, 0);
}

TEST(SampleStatistics, WhatCannotBeCountedIsNotGuessed) {
  Rig rig(kRound, 2 * kRound);  // three rounds fit neither
  const SetStatistics a = rig.count(1)[0];
  EXPECT_EQ(a.endless, rig.groups[3]);
  EXPECT_EQ(a.lengths, (Counts{{kRound, rig.groups[1]}, {2 * kRound, rig.groups[2]}}));
  EXPECT_EQ(a.of(Fate::kCut), rig.groups[2] + rig.groups[3]);
  Rig nowhere(kRound - 1, kRound - 1);
  EXPECT_EQ(nowhere.count(1)[1].of(Fate::kUnusable), 20);
}

TEST(SampleStatistics, ABugIsNoBadSample) {
  Rig rig(1000);
  rig.builder.internal_error = 7;
  EXPECT_THROW(rig.count(1), std::logic_error);
}

TEST(SampleStatistics, ArriveAsTheyWereSent) {
  SetStatistics one;
  one.fates = {1, 2, 3, 4, 5, 6};
  one.lengths = {{7, 8}, {9, 10}};
  one.images = {{0, 2}};
  one.endless = 11;
  one.rows = 12;
  one.labels = 13;
  const std::vector<SetStatistics> sent = {one, SetStatistics{}};
  const std::vector<SetStatistics> got = unpacked(packed(sent));
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].fates, one.fates);
  EXPECT_EQ(got[0].lengths, one.lengths);
  EXPECT_EQ(got[0].images, one.images);
  EXPECT_EQ(got[0].endless, 11);
  EXPECT_EQ(got[0].rows, 12);
  EXPECT_EQ(got[0].labels, 13);
  EXPECT_EQ(got[1].samples(), 0);
  EXPECT_TRUE(got[1].lengths.empty());
}

TEST(Quantile, IsTheSmallestNumberThatEnoughDoNotExceed) {
  std::map<int64_t, double> weights;
  for (int64_t number = 1; number <= 100; ++number) weights[number] = 1;
  EXPECT_EQ(quantile(weights, 0, 0.5), 50);
  EXPECT_EQ(quantile(weights, 0, 0.07), 7);
  EXPECT_EQ(quantile(weights, 0, 0.99), 99);
  EXPECT_EQ(quantile(weights, 0, 1), 100);
  EXPECT_EQ(quantile(weights, 1, 0.99), 100);
  EXPECT_EQ(quantile(weights, 2, 0.99), std::nullopt);
  EXPECT_EQ(quantile({{5, 0.25}, {6, 0.25}, {9, 1.5}}, 0, 0.25), 6);
  EXPECT_EQ(quantile({}, 0, 0.5), std::nullopt);
}

}  // namespace
}  // namespace facet
