// The loss log: version, columns, and numbers that read back as they were.
#include "train/loss_log.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "io/file.h"
#include "tests/train/file_size_limit.h"

namespace facet {
namespace {

std::vector<std::vector<std::string>> rows_of(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::vector<std::string>> rows;
  for (std::string line; std::getline(file, line);) {
    std::istringstream stream(line);
    rows.emplace_back();
    for (std::string cell; std::getline(stream, cell, ',');) rows.back().push_back(cell);
  }
  return rows;
}

class LossLogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = ::testing::TempDir() + "facet_loss_log";
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string directory_;
};

// A step with two groups and two data sets, the second without a labelled token.
StepReport some_step() {
  StepReport report;
  report.step = 7;
  report.epoch = 2;
  report.micro_batches = 3;
  report.samples = 11;
  report.tokens = 4097;
  report.labelled_tokens = 97;
  report.loss = 0.1 + 0.2;
  report.grad_norm = 1.0 / 3;
  report.clip_factor = std::nextafter(1.0, 0.0);
  report.skipped = true;
  report.learning_rates = {1e-3 / 7, 5e-324};
  report.seconds = 0.125;
  report.phases.nanoseconds = {1, 20, 300, 4000, 50000};
  report.end = WallTime(std::chrono::milliseconds(1'795'950'432'123));
  report.memory_bytes = int64_t{1} << 40;
  report.model_flops = 1'000'000'000'000'000'001;
  report.datasets = {{2.5, 4}, {0, 0}};
  return report;
}

using Cells = std::vector<std::pair<std::string, std::string>>;

Cells cells_of(const std::vector<std::string>& header, const std::vector<std::string>& row) {
  Cells cells;
  for (size_t i = 0; i < std::max(header.size(), row.size()); ++i)
    cells.emplace_back(i < header.size() ? header[i] : "-", i < row.size() ? row[i] : "-");
  return cells;
}

TEST_F(LossLogTest, ExactValuesComeBack) {
  {
    LossLog log(directory_, {"decay", "no_decay"}, {"llava", "coco_caption"}, 0, {3, 1e20});
    log.append(some_step());
  }
  const auto rows = rows_of(directory_ + "/loss_log.csv");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0][0], "# facet loss log v2");
  EXPECT_EQ(cells_of(rows[1], rows[2]), (Cells{{"step", "7"},
                                               {"epoch", "2"},
                                               {"start", "3"},
                                               {"time", "2026-11-29T11:07:12.123Z"},
                                               {"micro_batches", "3"},
                                               {"samples", "11"},
                                               {"tokens", "4097"},
                                               {"labelled_tokens", "97"},
                                               {"loss", "0.30000000000000004"},
                                               {"grad_norm", "0.3333333333333333"},
                                               {"clip_factor", "0.9999999999999999"},
                                               {"loss_scale", "1"},
                                               {"skipped", "1"},
                                               {"lr_decay", "0.00014285714285714287"},
                                               {"lr_no_decay", "5e-324"},
                                               {"seconds", "0.125"},
                                               {"data_seconds", "1e-09"},
                                               {"forward_seconds", "2e-08"},
                                               {"backward_seconds", "3e-07"},
                                               {"reduce_seconds", "4e-06"},
                                               {"optimizer_seconds", "5e-05"},
                                               {"memory_bytes", "1099511627776"},
                                               {"model_flops", "1000000000000000001"},
                                               {"mfu", "0.08"},
                                               {"loss_llava", "0.625"},
                                               {"loss_coco_caption", ""},
                                               {"labelled_tokens_llava", "4"},
                                               {"labelled_tokens_coco_caption", "0"}}));
}

TEST_F(LossLogTest, WithoutAPeakThereIsNoShareOfIt) {
  LossLog log(directory_, {"decay", "no_decay"}, {"llava", "coco_caption"});
  log.append(some_step());
  const auto rows = rows_of(directory_ + "/loss_log.csv");
  EXPECT_EQ(cells_of(rows[1], rows[2])[23], (Cells::value_type{"mfu", ""}));
}

// Its readers know neither other columns nor an empty one.
TEST_F(LossLogTest, ALogOfVersion1StaysOne) {
  const std::string path = directory_ + "/loss_log.csv";
  const std::string begun =
      "# facet loss log v1\n"
      "step,epoch,micro_batches,samples,tokens,labelled_tokens,loss,grad_norm,clip_factor,"
      "loss_scale,skipped,lr_decay,lr_no_decay,seconds,loss_llava,loss_coco_caption,"
      "labelled_tokens_llava,labelled_tokens_coco_caption\n"
      "6,2,3,11,4097,97,0.5,0.25,1,1,0,0.001,0.001,0.5,0.625,0,4,0\n";
  std::ofstream(path) << begun << "7,2,3,1";
  LossLog log(directory_, {"decay", "no_decay"}, {"llava", "coco_caption"},
              static_cast<int64_t>(begun.size()), {2, 1e20});
  log.append(some_step());
  const std::string row =
      "7,2,3,11,4097,97,0.30000000000000004,0.3333333333333333,0.9999999999999999,1,1,"
      "0.00014285714285714287,5e-324,0.125,0.625,0,4,0\n";
  EXPECT_EQ(read_file(path, 4096), begun + row);
  std::filesystem::remove(path);
  log.append(some_step());  // begun again, as the same
  EXPECT_EQ(read_file(path, 4096), begun.substr(0, begun.rfind('\n', begun.size() - 2) + 1) + row);
}

TEST_F(LossLogTest, AColumnThatNobodyKnowsIsAnError) {
  const std::string path = directory_ + "/eval_log.csv";
  for (const auto& [head, named] : {std::pair{"# facet eval log v2\nstep,remarks\n", "'remarks'"},
                                    std::pair{"# facet loss log v2\nstep,loss\n", "begins with"},
                                    std::pair{"# facet eval log v3\nstep,loss\n", "begins with"}}) {
    std::ofstream(path) << head;
    try {
      EvalLog log(directory_, {"replay"}, static_cast<int64_t>(std::strlen(head)));
      ADD_FAILURE() << "no error for " << head;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadData);
      EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << error.what();
    }
  }
}

TEST_F(LossLogTest, IsBegunAnewWhereItHasNoHead) {
  std::ofstream(directory_ + "/eval_log.csv") << "# facet eval log v2\nstep,loss";
  EvalLog log(directory_, {"replay"}, 25);
  EXPECT_GT(rows_of(directory_ + "/eval_log.csv")[1].size(), 5u);
}

TEST_F(LossLogTest, EarlierLogIsKept) {
  std::ofstream(directory_ + "/eval_log.csv") << "old";
  EvalLog log(directory_, {"replay"});
  EXPECT_EQ(rows_of(directory_ + "/eval_log.csv.previous")[0][0], "old");
  EvalReport report;
  report.datasets = {{3, 2}};
  log.append(report);  // flushed at once: read while it is open
  const auto rows = rows_of(directory_ + "/eval_log.csv");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[2].size(), rows[1].size());
  EXPECT_EQ(rows[1][8], "loss_replay");
  EXPECT_EQ(rows[2][8], "1.5");
}

// What is on the disk ends with a whole row, which is what a checkpoint notes; the row that did not
// fit comes later if it can.
TEST_F(LossLogTest, AFullDiskLeavesWholeRows) {
  const std::string path = directory_ + "/eval_log.csv";
  EvalReport report;
  report.datasets = {{3, 2}};
  EvalLog log(directory_, {"replay"});
  log.append(report);
  const auto whole = static_cast<int64_t>(std::filesystem::file_size(path));
  report.step = 1;
  {
    const FileSizeLimit limit(static_cast<rlim_t>(whole) + 5);
    EXPECT_THROW(log.append(report), Error);
    EXPECT_EQ(static_cast<int64_t>(std::filesystem::file_size(path)), whole);
    EXPECT_EQ(log.sync(), whole);
  }
  EXPECT_GT(log.sync(), whole);
  const auto rows = rows_of(path);
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[3][0], "1");
  EXPECT_EQ(rows[3].size(), rows[1].size());
}

TEST_F(LossLogTest, IsCutBackAndContinued) {
  EvalReport report;
  report.datasets = {{3, 2}};
  int64_t bytes = 0;
  {
    EvalLog log(directory_, {"replay"});
    report.step = 1;
    log.append(report);
    bytes = log.sync();
    report.step = 2;
    log.append(report);
  }
  {
    EvalLog log(directory_, {"replay"}, bytes);
    report.step = 3;
    log.append(report);
  }
  const auto rows = rows_of(directory_ + "/eval_log.csv");
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[2][0], "1");
  EXPECT_EQ(rows[3][0], "3");
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/eval_log.csv.previous"));
}

TEST_F(LossLogTest, IsBegunAnewWhereItIsGone) {
  EvalLog log(directory_, {"replay"}, 100);
  EXPECT_EQ(rows_of(directory_ + "/eval_log.csv").size(), 2u);
}

EvalReport report_of_step(int64_t step) {
  EvalReport report;
  report.step = step;
  report.datasets = {{3, 2}};
  return report;
}

TEST_F(LossLogTest, IsBegunAnewWhereSomebodyRemovesIt) {
  EvalLog log(directory_, {"replay"});
  log.append(report_of_step(1));
  std::filesystem::remove(directory_ + "/eval_log.csv");
  log.append(report_of_step(2));
  log.append(report_of_step(3));
  const auto rows = rows_of(directory_ + "/eval_log.csv");
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0][0], "# facet eval log v2");
  EXPECT_EQ(rows[2][0], "2");
  EXPECT_EQ(rows[3][0], "3");
  EXPECT_EQ(log.sync(), std::filesystem::file_size(directory_ + "/eval_log.csv"));
}

TEST_F(LossLogTest, GoesOnInACopyThatTakesItsPlace) {
  const std::string path = directory_ + "/eval_log.csv", copy = directory_ + "/copy";
  EvalLog log(directory_, {"replay"});
  log.append(report_of_step(1));
  std::filesystem::copy_file(path, copy);
  std::ofstream(copy, std::ios::app) << "9,a note\n";
  std::filesystem::rename(copy, path);
  log.append(report_of_step(2));
  const auto rows = rows_of(path);
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_EQ(rows[2][0], "1");
  EXPECT_EQ(rows[3][1], "a note");
  EXPECT_EQ(rows[4][0], "2");
}

TEST_F(LossLogTest, ARemovedDirectoryIsAnError) {
  EvalLog log(directory_, {"replay"});
  std::filesystem::remove_all(directory_);
  try {
    log.append(report_of_step(1));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kIo);
    EXPECT_NE(std::string(error.what()).find("was removed"), std::string::npos) << error.what();
  }
  EXPECT_GT(log.sync(), 0);  // for the checkpoint that the run ends with
}

TEST_F(LossLogTest, IsLookedForBeforeASave) {
  EvalLog log(directory_, {"replay"});
  log.find_again();
  std::filesystem::remove_all(directory_);
  EXPECT_THROW(log.find_again(), Error);
}

TEST_F(LossLogTest, UnwritablePlaceIsAnError) {
  try {
    LossLog log(directory_ + "/nowhere", {}, {});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kIo);
  }
}

}  // namespace
}  // namespace facet
