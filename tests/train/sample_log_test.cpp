// OUT/samples.jsonl: what is in it after a restart.
#include "train/sample_log.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "io/file.h"
#include "tests/io/temporary_directory.h"
#include "tests/train/file_size_limit.h"

namespace facet {
namespace {

SampleLine sample_after(int64_t step, int64_t round) {
  return {.step = step,
          .epoch = 1,
          .samples = 12 * step,
          .test = "a \"test\"",
          .round = round,
          .question = {"What?\nAnd where?", {"a b.png"}},
          .answer = {"a circle", 3, 0.125, "end_token"}};
}

class SampleLogTest : public ::testing::Test {
 protected:
  SampleLogTest() {
    SampleLog log(directory_.path(), 0);
    for (const int64_t step : {2, 4, 6}) log.append({sample_after(step, 0), sample_after(step, 1)});
  }
  std::string content() const { return read_file(path_, 1 << 20); }
  std::string steps() const {
    std::string text;
    for (const SampleLine& sample : sample_lines_of(content(), "the log"))
      text += std::to_string(sample.step) + (sample.round == 0 ? "a" : "b");
    return text;
  }

  TemporaryDirectory directory_;
  const std::string path_ = directory_ / "samples.jsonl";
};

TEST_F(SampleLogTest, ALineComesBackAsWritten) {
  const std::vector<SampleLine> lines = sample_lines_of(content(), "the log");
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(line_of(lines[1]), line_of(sample_after(2, 1)));
  EXPECT_EQ(lines[1].question.images, std::vector<std::string>{"a b.png"});
  SampleLine failed = sample_after(2, 0);
  failed.answer = {.stop_reason = "error", .error = "b.png: no such file"};
  EXPECT_EQ(sample_lines_of(line_of(failed), "")[0].answer.error, "b.png: no such file");
}

TEST_F(SampleLogTest, LaterStepsAreCutOff) {
  SampleLog log(directory_.path(), 5);
  EXPECT_EQ(log.last_step(), 4);
  EXPECT_EQ(steps(), "2a2b4a4b");
  log.append({sample_after(6, 0)});
  EXPECT_EQ(log.last_step(), 6);
  EXPECT_EQ(steps(), "2a2b4a4b6a");
}

TEST_F(SampleLogTest, WhatIsLeftOfALineIsCutOff) {
  append_to_file(path_, R"({"step":6,"epo)");
  EXPECT_EQ(SampleLog(directory_.path(), 6).last_step(), 6);
  EXPECT_EQ(steps(), "2a2b4a4b6a6b");
}

TEST_F(SampleLogTest, ANewRunKeepsTheOldFileBesides) {
  EXPECT_EQ(SampleLog(directory_.path(), 0).last_step(), 0);
  EXPECT_FALSE(std::filesystem::exists(path_));
  EXPECT_TRUE(std::filesystem::exists(path_ + ".previous"));
  EXPECT_EQ(SampleLog(directory_.path(), 3).last_step(), 0);  // there is no file
}

TEST_F(SampleLogTest, AnotherTextIsRefused) {
  append_to_file(path_, "no JSON\n");
  EXPECT_TRUE(mentions(error_of([&] { SampleLog(directory_.path(), 6); }), path_));
}

// On a full disk there is nothing of a step rather than a part.
TEST_F(SampleLogTest, TheAnswersAfterAStepAreWrittenTogetherOrNotAtAll) {
  const std::string before = content();
  SampleLog log(directory_.path(), 6);
  {
    const FileSizeLimit full(before.size() + 300);
    EXPECT_THROW(log.append({sample_after(8, 0), sample_after(8, 1)}), Error);
  }
  EXPECT_EQ(content(), before);
  EXPECT_EQ(log.last_step(), 6);
}

}  // namespace
}  // namespace facet
