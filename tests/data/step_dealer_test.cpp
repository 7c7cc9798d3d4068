// Micro-batches by tokens from data sets, on ranks that are threads.
#include "data/step_dealer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>

#include "data/loader.h"
#include "fake_data.h"
#include "rank_threads.h"

namespace facet {
namespace {

constexpr int64_t kImageTokens = 10;

WorkModel work_model() {
  WorkModel work;
  work.image_tokens = kImageTokens;
  work.of_row = 100;
  work.of_image = 50;
  work.of_label = 20;
  work.of_pair = 1;
  return work;
}

class StepDealerTest : public testing::Test {
 protected:
  // [rank] the micro-batches that `use` fetched of the loader of that rank, with 12 samples a step.
  using Fetched = std::vector<std::vector<MicroBatch>>;
  Fetched on_ranks(int64_t count, const std::function<void(Loader&, std::vector<MicroBatch>&)>& use,
                   int64_t workers = 2) {
    RankThreads ranks(count);
    Fetched fetched(static_cast<size_t>(count));
    std::vector<std::jthread> threads;
    for (int64_t rank = 0; rank < count; ++rank)
      threads.emplace_back([&, rank] {
        LoaderOptions o;
        o.rank = rank;
        o.ranks = count;
        o.per_device_train_batch_size = 12 / count;
        o.num_workers = workers;
        o.bad_samples = BadSamplePolicy::kSkip;
        o.tokens_per_micro_batch = 40;
        o.work = &work_;
        o.exchange = ranks.exchange_of(rank);
        Loader loader(table_, builder_, o);
        use(loader, fetched[static_cast<size_t>(rank)]);
      });
    threads.clear();
    return fetched;
  }
  static void fetch(Loader& loader, int64_t epoch, int64_t step, std::vector<MicroBatch>& to) {
    loader.agree_on_step(epoch, step);
    const auto batches = loader.fetch_step(epoch, step);
    to.insert(to.end(), batches.begin(), batches.end());
  }
  Fetched step_on_ranks(int64_t count, int64_t epoch, int64_t step, int64_t workers = 2) {
    return on_ranks(
        count, [&](Loader& loader, auto& to) { fetch(loader, epoch, step, to); }, workers);
  }
  static std::multiset<int64_t> ids_of(const Fetched& fetched) {
    std::multiset<int64_t> ids;
    for (const auto& batches : fetched)
      for (const MicroBatch& batch : batches)
        ids.insert(batch.sample_ids.begin(), batch.sample_ids.end());
    return ids;
  }
  static std::vector<std::vector<int64_t>> lists_of(const Fetched& fetched) {
    std::vector<std::vector<int64_t>> lists;
    for (const auto& batches : fetched)
      for (const MicroBatch& batch : batches) lists.push_back(batch.sample_ids);
    return lists;
  }

  Datasets datasets_ = fake_datasets({{"a", 150}, {"b", 37}});
  SampleTable table_{datasets_, {{DatasetRequest::kAllSamples, 5}, {}}, 1, 7};
  FakeBuilder builder_;
  WorkModel work_ = work_model();
};

TEST_F(StepDealerTest, AStepHasTheSamplesOfItsPositionsOnAnyNumberOfRanks) {
  const std::vector<int64_t> order =
      epoch_permutation(table_.num_samples(Split::kTraining), table_.seed(), 1);
  const auto count = static_cast<int64_t>(order.size());
  for (const int64_t step : {int64_t{0}, int64_t{3}, (count - 1) / 12}) {
    const std::multiset<int64_t> expected(order.begin() + step * 12,
                                          order.begin() + std::min(count, step * 12 + 12));
    for (const int64_t ranks : {1, 2, 3, 4}) {
      const Fetched fetched = step_on_ranks(ranks, 1, step);
      EXPECT_EQ(ids_of(fetched), expected);
      for (const auto& batches : fetched) EXPECT_EQ(batches.size(), fetched[0].size());
    }
  }
}

TEST_F(StepDealerTest, NoMicroBatchIsLongerThanItsTokensUnlessOneSampleIs) {
  bool packed = false;
  for (const auto& batches : step_on_ranks(2, 0, 0))
    for (const MicroBatch& batch : batches) {
      const int64_t rows = batch.num_tokens() + batch.num_images() * (kImageTokens - 1);
      EXPECT_TRUE(batch.num_samples() <= 1 || rows <= 40) << rows;
      packed |= batch.num_samples() > 1;
    }
  EXPECT_TRUE(packed);
}

// An epoch and a half in one go, beside a run that begins there; with an evaluation in between.
TEST_F(StepDealerTest, StartingAtAnyStepGivesWhatRunningThereGives) {
  for (const int64_t step : {0, 4}) {
    const Fetched expected = on_ranks(2, [&](Loader& loader, auto& to) {
      for (int64_t before = 0; before < loader.steps_per_epoch(); ++before)
        fetch(loader, 0, before, to);
      for (int64_t before = 0; before < step; ++before) fetch(loader, 1, before, to);
      to.clear();
      fetch(loader, 1, step, to);
    });
    for (const int64_t workers : {0, 1, 3}) {
      const Fetched found = step_on_ranks(2, 1, step, workers);
      EXPECT_EQ(lists_of(found), lists_of(expected));
      for (size_t rank = 0; rank < 2; ++rank)
        for (size_t m = 0; m < found[rank].size(); ++m) {
          EXPECT_EQ(found[rank][m].token_ids, expected[rank][m].token_ids);
          EXPECT_EQ(found[rank][m].pixels, expected[rank][m].pixels);
        }
    }
  }
}

TEST_F(StepDealerTest, AStepMayBeFetchedAgain) {
  const Fetched first = on_ranks(2, [](Loader& loader, auto& to) {
    fetch(loader, 0, 2, to);
    const auto batches = loader.fetch_step(0, 2);
    to.insert(to.end(), batches.begin(), batches.end());
  });
  for (const auto& batches : first)
    for (size_t m = 0; m < batches.size() / 2; ++m)
      EXPECT_EQ(batches[m].sample_ids, batches[m + batches.size() / 2].sample_ids);
}

// One whose text is bad and one whose image is: the first is found when it is measured.
TEST_F(StepDealerTest, BadSamplesAreLeftOutAndCountedOnce) {
  auto& dataset = dynamic_cast<FakeDataset&>(*datasets_[1]);
  dataset.empty_answer = 3;
  dataset.unreadable_image = 4;
  for (const int64_t ranks : {1, 2, 3}) {
    std::atomic<int64_t> bad{0};
    const Fetched fetched = on_ranks(ranks, [&](Loader& loader, auto& to) {
      for (int64_t step = 0; step < loader.steps_per_epoch(); ++step) {
        fetch(loader, 0, step, to);
        for (const int64_t count : loader.bad_samples_of_last_fetch()) bad += count;
      }
    });
    EXPECT_EQ(bad, 2);
    EXPECT_EQ(static_cast<int64_t>(ids_of(fetched).size()),
              table_.num_samples(Split::kTraining) - 2);
  }
}

TEST(WorkModel, AShapeCountsRowsImagesLabelsAndPairs) {
  WorkModel work;
  work.image_tokens = 3;
  // Text, image, text, text: rows 1, 2-4, 5, 6; the label of the first token is not predicted.
  const PreparedSample sample{{7, 500, 8, 9}, {7, -100, -100, 9}, {}, 1};
  const SampleShape causal = work.shape(sample, 500);
  EXPECT_EQ(causal.rows, 6);
  EXPECT_EQ(causal.images, 1);
  EXPECT_EQ(causal.labels, 1);
  EXPECT_EQ(causal.pairs, 21);
  EXPECT_EQ(causal.labelled_pairs, 5);
  work.images_apart = true;
  EXPECT_EQ(work.shape(sample, 500).pairs, 1 + 5 + 6);
  EXPECT_EQ(work.shape(sample, 500).labelled_pairs, 5);
}

}  // namespace
}  // namespace facet
