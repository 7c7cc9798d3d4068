#include "data/replay.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/check.h"
#include "data/loader.h"
#include "fake_data.h"
#include "io/file.h"
#include "io/hdf5_file.h"

namespace facet {
namespace {

class ReplayTest : public testing::Test {
 protected:
  ReplayTest()
      : directory_(std::filesystem::temp_directory_path() /
                   ("facet_replay_test." + std::to_string(getpid()))),
        path_(directory_ / "batches.h5") {
    std::filesystem::create_directories(directory_);
  }
  ~ReplayTest() override { std::filesystem::remove_all(directory_); }

  Loader loader(int64_t rank, int64_t ranks) const {
    LoaderOptions o;
    o.rank = rank;
    o.ranks = ranks;
    o.per_device_train_batch_size = 2;
    o.accumulation = 2;
    return Loader(table_, builder_, o);
  }
  void record(int64_t ranks, int64_t steps) const {
    for (int64_t rank = 0; rank < ranks; ++rank) {
      Loader source = loader(rank, ranks);
      BatchRecorder recorder(steps);
      for (int64_t step = 0; step < source.steps_per_epoch(); ++step)
        recorder.record(source.fetch_step(0, step));
      EXPECT_TRUE(recorder.full());
      recorder.write(path_, rank, ranks);
    }
  }
  // The message of opening the file on one rank.
  std::string message(int64_t ranks, ExitCode code) const {
    try {
      Replay(path_, 0, ranks);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "no error";
    return "";
  }

  std::filesystem::path directory_, path_;
  Datasets datasets_ = fake_datasets({{"a", 13}, {"b", 9}});
  SampleTable table_{datasets_, {{DatasetRequest::kAllSamples, 2}, {}}, 1, 7};
  FakeBuilder builder_;
};

// The last step is short: on three ranks some micro-batches are empty.
TEST_F(ReplayTest, GivesBackWhatWasRecordedOnEveryRank) {
  for (const int64_t ranks : {1, 2, 3}) {
    const int64_t steps = loader(0, ranks).steps_per_epoch();
    record(ranks, steps);
    int64_t samples = 0;
    for (int64_t rank = 0; rank < ranks; ++rank) {
      Loader source = loader(rank, ranks);
      Replay replay(path_, rank, ranks);
      EXPECT_EQ(replay.image_size(), 1);
      EXPECT_EQ(replay.num_datasets(), 2);
      EXPECT_EQ(replay.image_token_id(), FakeBuilder::kImage);
      ASSERT_EQ(replay.steps_per_epoch(), steps);
      for (int64_t step = 0; step < steps; ++step) {
        const auto expected = source.fetch_step(0, step);
        const auto found = replay.fetch_step(5, step);
        ASSERT_EQ(found.size(), expected.size());
        for (size_t m = 0; m < found.size(); ++m) {
          EXPECT_EQ(found[m].token_ids, expected[m].token_ids);
          EXPECT_EQ(found[m].labels, expected[m].labels);
          EXPECT_EQ(found[m].pixels, expected[m].pixels);
          EXPECT_EQ(found[m].sample_begin, expected[m].sample_begin);
          EXPECT_EQ(found[m].images_per_sample, expected[m].images_per_sample);
          EXPECT_EQ(found[m].sample_ids, expected[m].sample_ids);
          EXPECT_EQ(found[m].dataset_of_sample, expected[m].dataset_of_sample);
          EXPECT_EQ(found[m].image_token_id, FakeBuilder::kImage);
          EXPECT_EQ(found[m].image_size, 1);
          samples += found[m].num_samples();
        }
      }
    }
    EXPECT_EQ(samples, table_.num_samples(Split::kTraining));
  }
}

TEST_F(ReplayTest, RecordsTheFirstStepsOnly) {
  record(1, 2);
  EXPECT_EQ(Replay(path_, 0, 1).steps_per_epoch(), 2);
}

TEST_F(ReplayTest, AnotherNumberOfRanksIsRefused) {
  record(2, 1);
  const std::string text = message(3, ExitCode::kConfig);
  EXPECT_NE(text.find("2 ranks"), std::string::npos) << text;
}

// A text-only micro-batch of one sample, as a script might write it.
void write_by_hand(const std::string& path, const std::vector<int32_t>& ids,
                   const std::vector<int32_t>& labels, const std::vector<int32_t>& sample_begin,
                   const std::vector<int64_t>& step, int64_t image_token_id = 500) {
  Hdf5File file = Hdf5File::create(path);
  const auto scalar = [&](const char* name, int64_t value) { file.write(name, &value, {1}); };
  scalar("version", 1);
  scalar("ranks", 1);
  scalar("image_token_id", image_token_id);
  scalar("image_size", 4);
  file.write("step", step.data(), {static_cast<int64_t>(step.size())});
  const auto write = [&](const std::string& name, const std::vector<int32_t>& values) {
    file.write("rank_0/micro_batch_0/" + name, values.data(),
               {static_cast<int64_t>(values.size())});
  };
  write("token_ids", ids);
  write("labels", labels);
  write("sample_begin", sample_begin);
  write("images_per_sample", std::vector<int32_t>(sample_begin.size() - 1, 0));
  file.close();
}

TEST_F(ReplayTest, ReadsWhatAnotherProgramWroteWithoutTheOptionalParts) {
  write_by_hand(path_, {1, 7, 8}, {-100, -100, 8}, {0, 3}, {0});
  Replay replay(path_, 0, 1);
  const MicroBatch& batch = replay.fetch_step(0, 0)[0];
  EXPECT_EQ(batch.num_labelled(), 1);
  EXPECT_EQ(batch.num_images(), 0);
  EXPECT_EQ(batch.sample_ids.size(), 1u);
}

// A link that lies there under the file's name.
TEST_F(ReplayTest, ARecordingIsWrittenThroughNoLink) {
  const std::filesystem::path precious = directory_ / "precious";
  write_file(precious.string(), "mine");
  std::filesystem::create_symlink(precious, path_);
  record(2, 1);
  EXPECT_EQ(read_file(precious.string(), 100), "mine");
  EXPECT_FALSE(std::filesystem::is_symlink(path_));
  EXPECT_EQ(Replay(path_, 1, 2).steps_per_epoch(), 1);
}

TEST_F(ReplayTest, NumbersBeyondTheirTypeAreRefused) {
  write_by_hand(path_, {1, 7, 8}, {-100, -100, 8}, {0, 3}, {0}, (int64_t{1} << 32) + 500);
  EXPECT_NE(message(1, ExitCode::kBadData).find("image_token_id"), std::string::npos);
  write_by_hand(path_, {1, 7, 8}, {-100, -100, 8}, {0, 3}, {0}, -1);
  EXPECT_NE(message(1, ExitCode::kBadData).find("image_token_id"), std::string::npos);
}

TEST_F(ReplayTest, DataWithoutAnyLabelIsAnError) {
  write_by_hand(path_, {1, 7, 8}, {-100, -100, -100}, {0, 3}, {0});
  EXPECT_NE(message(1, ExitCode::kBadData).find("nothing to learn"), std::string::npos);
}

TEST_F(ReplayTest, ContradictionsInTheFileAreErrors) {
  write_by_hand(path_, {1, 7, 8}, {-100, 8}, {0, 3}, {0});
  EXPECT_NE(message(1, ExitCode::kBadData).find("length"), std::string::npos);
  write_by_hand(path_, {1, 7, 8}, {-100, -100, 9}, {0, 3}, {0});
  EXPECT_NE(message(1, ExitCode::kBadData).find("neither"), std::string::npos);
  write_by_hand(path_, {1, 7, 8}, {-100, -100, 8}, {0, 4}, {0});
  EXPECT_NE(message(1, ExitCode::kBadData).find("sample_begin"), std::string::npos);
  write_by_hand(path_, {1, 500, 8}, {-100, -100, 8}, {0, 3}, {0});
  EXPECT_NE(message(1, ExitCode::kBadData).find("image"), std::string::npos);
  write_by_hand(path_, {1, 7, 8}, {-100, -100, 8}, {0, 3}, {0, 2});
  EXPECT_NE(message(1, ExitCode::kBadData).find("step"), std::string::npos);
  write_by_hand(path_, {1, 7, 8}, {-100, -100, 8}, {0, 3}, {0, 1});  // of step 1 nothing is there
  EXPECT_NE(message(1, ExitCode::kBadData).find("micro_batch_1"), std::string::npos);
}

}  // namespace
}  // namespace facet
