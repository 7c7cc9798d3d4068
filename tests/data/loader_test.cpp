#include "data/loader.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "data/probe.h"
#include "fake_data.h"

namespace facet {
namespace {

bool same(const MicroBatch& a, const MicroBatch& b) {
  return a.token_ids == b.token_ids && a.labels == b.labels && a.sample_begin == b.sample_begin &&
         a.images_per_sample == b.images_per_sample && a.pixels == b.pixels &&
         a.dataset_of_sample == b.dataset_of_sample && a.sample_ids == b.sample_ids &&
         a.image_token_id == b.image_token_id && a.image_size == b.image_size;
}

LoaderOptions options(int64_t rank, int64_t ranks, int64_t per_device, int64_t accumulation,
                      int64_t workers = 2) {
  LoaderOptions o;
  o.rank = rank;
  o.ranks = ranks;
  o.per_device_train_batch_size = o.per_device_eval_batch_size = per_device;
  o.accumulation = accumulation;
  o.num_workers = workers;
  return o;
}

class LoaderTest : public testing::Test {
 protected:
  LoaderTest() {
    directory_ =
        std::filesystem::temp_directory_path() / ("facet_loader_test." + std::to_string(getpid()));
    std::filesystem::create_directories(directory_);
  }
  ~LoaderTest() override { std::filesystem::remove_all(directory_); }

  FakeDataset& first() { return dynamic_cast<FakeDataset&>(*datasets_[0]); }
  LoaderOptions skipping(int64_t rank, int64_t ranks) const {
    LoaderOptions o = options(rank, ranks, 6 / ranks, 2);
    o.bad_samples = BadSamplePolicy::kSkip;
    o.bad_samples_path = BadSampleList::path_for(directory_, rank);
    return o;
  }

  std::filesystem::path directory_;
  Datasets datasets_ = fake_datasets({{"a", 60}, {"b", 37}});
  SampleTable table_{datasets_, {{DatasetRequest::kAllSamples, 2}, {}}, 0.8, 7};
  FakeBuilder builder_;
};

TEST_F(LoaderTest, AMicroBatchHoldsWhatTheBuilderMade) {
  Loader loader(table_, builder_, options(0, 1, 4, 1));
  const std::vector<int64_t> order =
      epoch_permutation(table_.num_samples(Split::kTraining), table_.seed(), 3);
  const MicroBatch& batch = loader.fetch_step(3, 2)[0];
  ASSERT_EQ(batch.num_samples(), 4);
  EXPECT_EQ(batch.image_token_id, FakeBuilder::kImage);
  for (size_t b = 0; b < 4; ++b) {
    const int64_t id = order[8 + b];
    EXPECT_EQ(batch.sample_ids[b], id);
    EXPECT_EQ(batch.dataset_of_sample[b], table_.dataset_of(Split::kTraining, id));
    PreparedSample expected;
    builder_.build(table_.read(Split::kTraining, id, 3), expected);
    const std::vector<int32_t> ids(batch.token_ids.begin() + batch.sample_begin[b],
                                   batch.token_ids.begin() + batch.sample_begin[b + 1]);
    EXPECT_EQ(ids, expected.token_ids);
    EXPECT_EQ(batch.images_per_sample[b], expected.num_images);
  }
  EXPECT_EQ(static_cast<int64_t>(batch.pixels.size()), 3 * batch.num_images());
}

// Sample ids of a whole epoch, step by step, micro-batch by micro-batch, rank by rank.
std::vector<std::vector<int64_t>> epoch_ids(const SampleTable& table, const SampleBuilder& builder,
                                            int64_t ranks) {
  std::vector<std::unique_ptr<Loader>> loaders;
  for (int64_t r = 0; r < ranks; ++r)
    loaders.push_back(
        std::make_unique<Loader>(table, builder, options(r, ranks, 6 / ranks, 2, r % 3)));
  std::vector<std::vector<int64_t>> steps;
  for (int64_t step = 0; step < loaders[0]->steps_per_epoch(); ++step) {
    std::vector<std::span<const MicroBatch>> fetched;
    for (auto& loader : loaders) fetched.push_back(loader->fetch_step(0, step));
    std::vector<int64_t>& ids = steps.emplace_back();
    for (size_t m = 0; m < fetched[0].size(); ++m)
      for (const auto& of_rank : fetched) {
        EXPECT_EQ(of_rank.size(), fetched[0].size());
        ids.insert(ids.end(), of_rank[m].sample_ids.begin(), of_rank[m].sample_ids.end());
      }
  }
  return steps;
}

TEST_F(LoaderTest, OneTwoAndThreeRanksSeeTheSameGlobalBatchesInTheSameOrder) {
  const auto one = epoch_ids(table_, builder_, 1);
  EXPECT_EQ(one, epoch_ids(table_, builder_, 2));
  EXPECT_EQ(one, epoch_ids(table_, builder_, 3));
  std::set<int64_t> seen;
  for (const auto& step : one) seen.insert(step.begin(), step.end());
  EXPECT_EQ(static_cast<int64_t>(seen.size()), table_.num_samples(Split::kTraining));
}

TEST_F(LoaderTest, StartingAtAnyStepGivesWhatRunningThereGives) {
  Loader through(table_, builder_, options(1, 2, 3, 2));
  for (int64_t epoch = 0; epoch < 2; ++epoch)
    for (int64_t step = 0; step < through.steps_per_epoch(); ++step) {
      Loader fresh(table_, builder_, options(1, 2, 3, 2));
      const auto expected = through.fetch_step(epoch, step);
      const auto found = fresh.fetch_step(epoch, step);
      ASSERT_EQ(found.size(), expected.size());
      for (size_t m = 0; m < found.size(); ++m)
        EXPECT_TRUE(same(found[m], expected[m])) << epoch << " " << step << " " << m;
    }
}

// A run that is continued in the middle of an epoch on more ranks, twice: what it has not yet seen,
// nothing again.
TEST_F(LoaderTest, OtherRanksTakeOverWithinAnEpochAndSeeEachSampleOnce) {
  struct Job {
    int64_t ranks, per_device, accumulation;  // 6 samples a step
  };
  const auto job_of = [](int64_t step) {
    return step < 3 ? Job{1, 3, 2} : step < 6 ? Job{2, 1, 3} : Job{3, 2, 1};
  };
  const int64_t steps = Loader(table_, builder_, options(0, 1, 6, 1)).steps_per_epoch();
  ASSERT_GT(steps, 7);
  std::multiset<int64_t> seen;
  for (int64_t step = 0; step < steps; ++step) {
    const auto [ranks, per_device, accumulation] = job_of(step);
    for (int64_t rank = 0; rank < ranks; ++rank) {
      Loader loader(table_, builder_, options(rank, ranks, per_device, accumulation));
      for (const MicroBatch& batch : loader.fetch_step(1, step))
        seen.insert(batch.sample_ids.begin(), batch.sample_ids.end());
    }
  }
  ASSERT_EQ(static_cast<int64_t>(seen.size()), table_.num_samples(Split::kTraining));
  for (int64_t i = 0; i < table_.num_samples(Split::kTraining); ++i) EXPECT_EQ(seen.count(i), 1u);
}

// Samples take 0 to 0.4 ms, so that threads finish them in another order than they began.
class UnevenBuilder : public FakeBuilder {
 public:
  void build(const RawSample& sample, PreparedSample& out) const override {
    const size_t length = sample.rounds[0].question.size() + sample.rounds[0].answer.size();
    std::this_thread::sleep_for(std::chrono::microseconds(length * 3 % 5 * 100));
    FakeBuilder::build(sample, out);
  }
};

TEST_F(LoaderTest, TheNumberOfThreadsChangesNothing) {
  const UnevenBuilder uneven;
  Loader alone(table_, builder_, options(0, 1, 5, 2, 0));
  for (const int64_t workers : {1, 2, 7}) {
    Loader loader(table_, uneven, options(0, 1, 5, 2, workers));
    for (int64_t step = 0; step < alone.steps_per_epoch(); ++step) {
      const auto expected = alone.fetch_step(1, step);
      const auto found = loader.fetch_step(1, step);
      ASSERT_EQ(found.size(), expected.size());
      for (size_t m = 0; m < found.size(); ++m) EXPECT_TRUE(same(found[m], expected[m]));
    }
  }
}

TEST_F(LoaderTest, ARankWithoutSamplesTakesPartWithEmptyMicroBatches) {
  const Datasets few = fake_datasets({{"a", 1}});
  const SampleTable table(few, {{}}, 1, 1);
  for (int64_t rank = 0; rank < 3; ++rank) {
    Loader loader(table, builder_, options(rank, 3, 2, 4));
    EXPECT_EQ(loader.steps_per_epoch(), 1);
    const auto step = loader.fetch_step(0, 0);
    ASSERT_EQ(step.size(), 1u);
    EXPECT_EQ(step[0].num_samples(), rank == 0 ? 1 : 0);
    EXPECT_EQ(step[0].sample_begin, rank == 0 ? (std::vector<int32_t>{0, 3}) : (std::vector{0}));
  }
}

TEST_F(LoaderTest, EvaluationVisitsEverySampleOnceAndDoesNotDisturbTraining) {
  for (const int64_t ranks : {1, 2, 3}) {
    std::multiset<int64_t> seen;
    for (int64_t rank = 0; rank < ranks; ++rank) {
      Loader loader(table_, builder_, options(rank, ranks, 2, 2));
      Loader undisturbed(table_, builder_, options(rank, ranks, 2, 2));
      loader.fetch_step(0, 0);
      for (int64_t m = 0; m < loader.num_evaluation_micro_batches(); ++m) {
        const MicroBatch& batch = loader.fetch_evaluation(m);
        seen.insert(batch.sample_ids.begin(), batch.sample_ids.end());
      }
      EXPECT_TRUE(same(loader.fetch_step(0, 1)[0], undisturbed.fetch_step(0, 1)[0]));
    }
    ASSERT_EQ(static_cast<int64_t>(seen.size()), table_.num_samples(Split::kEvaluation));
    for (int64_t i = 0; i < table_.num_samples(Split::kEvaluation); ++i)
      EXPECT_EQ(seen.count(i), 1u);
  }
}

// The ids of this rank's samples of epoch 0; `counted` grows by the bad ones.
std::multiset<int64_t> kept_ids(Loader& loader, int64_t* counted) {
  std::multiset<int64_t> kept;
  for (int64_t step = 0; step < loader.steps_per_epoch(); ++step) {
    for (const MicroBatch& batch : loader.fetch_step(0, step))
      kept.insert(batch.sample_ids.begin(), batch.sample_ids.end());
    for (const int64_t bad : loader.bad_samples_of_last_fetch()) *counted += bad;
  }
  return kept;
}

TEST_F(LoaderTest, SkipLeavesOutTheSameBadSamplesOnAnyNumberOfRanksAndCountsThem) {
  for (const int32_t record : {3, 30, 31}) {
    first().unreadable_image = record;
    first().empty_answer = record + 11;
    builder_.lost_image_place = record + 17;
    std::multiset<int64_t> kept_by_one;
    for (const int64_t ranks : {1, 2, 3}) {
      std::multiset<int64_t> kept;
      int64_t counted = 0;
      for (int64_t rank = 0; rank < ranks; ++rank) {
        Loader loader(table_, builder_, skipping(rank, ranks));
        kept.merge(kept_ids(loader, &counted));
      }
      EXPECT_GT(counted, 0);
      EXPECT_EQ(static_cast<int64_t>(kept.size()) + counted, table_.num_samples(Split::kTraining));
      if (ranks == 1) kept_by_one = kept;
      EXPECT_EQ(kept, kept_by_one);
    }
  }
}

TEST_F(LoaderTest, BadSamplesAreListedWithTheirReason) {
  builder_.unlabelled = 5;
  int64_t counted = 0;
  {
    Loader loader(table_, builder_, skipping(0, 1));
    kept_ids(loader, &counted);
  }
  std::ifstream list(directory_ / "bad_samples.rank-0.jsonl");
  int64_t lines = 0;
  for (std::string line; std::getline(list, line); ++lines) {
    EXPECT_NE(line.find("no token to learn from"), std::string::npos) << line;
    EXPECT_EQ(line.front(), '{');
    EXPECT_EQ(line.back(), '}');
  }
  EXPECT_EQ(lines, counted);
  EXPECT_GE(lines, 1);
}

TEST_F(LoaderTest, TheErrorPolicyStopsAndNamesTheRecord) {
  const auto records = table_.records_of(Split::kTraining, 0);
  ASSERT_TRUE(!records.empty());
  auto& dataset = dynamic_cast<FakeDataset&>(
      *datasets_[static_cast<size_t>(table_.dataset_of(Split::kTraining, 0))]);
  dataset.unreadable_image = records[0];
  Loader loader(table_, builder_, options(0, 1, table_.num_samples(Split::kTraining), 1));
  try {
    loader.fetch_step(0, 0);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadData);
    const std::string message = error.what();
    EXPECT_NE(message.find("data set " + dataset.name()), std::string::npos) << message;
    EXPECT_NE(message.find("not an image"), std::string::npos) << message;
  }
  dataset.unreadable_image = -1;
  EXPECT_EQ(loader.fetch_step(0, 0)[0].num_samples(), table_.num_samples(Split::kTraining));
}

TEST_F(LoaderTest, BugsAreNoBadSamples) {
  builder_.internal_error = 5;
  Loader loader(table_, builder_, skipping(0, 1));
  EXPECT_THROW(
      {
        for (int64_t step = 0; step < loader.steps_per_epoch(); ++step) loader.fetch_step(0, step);
        for (int64_t m = 0; m < loader.num_evaluation_micro_batches(); ++m)
          loader.fetch_evaluation(m);
      },
      std::logic_error);
}

TEST_F(LoaderTest, TooManyImagesMakeABadSample) {
  LoaderOptions o = skipping(0, 1);
  o.max_num_image_per_sample = 1;  // samples of two records show two
  Loader loader(table_, builder_, o);
  int64_t counted = 0, expected = 0;
  kept_ids(loader, &counted);
  for (int64_t i = 0; i < table_.num_samples(Split::kTraining); ++i)
    expected += table_.records_of(Split::kTraining, i).size() > 1;
  EXPECT_GT(expected, 0);
  EXPECT_EQ(counted, expected);
}

TEST(BadSampleBudget, StopsOnceAnEpochHasMoreThanItsPart) {
  BadSampleBudget budget({"a", "b"}, 100, 0.03);
  budget.charge(0, std::vector<int64_t>{1, 1});
  budget.charge(0, std::vector<int64_t>{0, 1});
  EXPECT_THROW(budget.charge(0, std::vector<int64_t>{1, 0}), Error);
  budget.charge(1, std::vector<int64_t>{3, 0});  // every epoch has its own part
  EXPECT_EQ(budget.bad_in_epoch(), 3);
  EXPECT_EQ(budget.total_by_dataset(), (std::vector<int64_t>{5, 2}));
  EXPECT_THROW(budget.charge(1, std::vector<int64_t>{0, 1}), Error);
}

TEST_F(LoaderTest, ProbeCountsAndRefusesADataSetWithoutAnythingToLearn) {
  first().unreadable_image = 0;
  const std::vector<ProbeReport> reports = probe_datasets(table_, builder_, 8, 10);
  ASSERT_EQ(reports.size(), 2u);
  EXPECT_EQ(reports[0].records, 10);
  EXPECT_EQ(reports[0].bad, 1);
  EXPECT_EQ(reports[0].labelled_tokens, 9);
  EXPECT_EQ(reports[0].tokens, 27);
  EXPECT_EQ(reports[0].images, 9);
  EXPECT_EQ(reports[1].bad, 0);

  const Datasets unlabelled = fake_datasets({{"c", 1}});
  const SampleTable table(unlabelled, {{}}, 1, 1);
  FakeBuilder builder;
  builder.unlabelled = 0;
  EXPECT_THROW(probe_datasets(table, builder, 8, 10), Error);
}

}  // namespace
}  // namespace facet
