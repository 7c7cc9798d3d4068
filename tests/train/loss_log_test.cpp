// The loss log: version, columns, and numbers that read back as they were.
#include "train/loss_log.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

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

TEST_F(LossLogTest, ExactValuesComeBack) {
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
  report.datasets = {{2.5, 4}, {0, 0}};
  {
    LossLog log(directory_, {"decay", "no_decay"}, {"llava", "coco_caption"});
    log.append(report);
  }
  const auto rows = rows_of(directory_ + "/loss_log.csv");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0][0], "# facet loss log v1");
  const std::vector<std::string> header = {"step",
                                           "epoch",
                                           "micro_batches",
                                           "samples",
                                           "tokens",
                                           "labelled_tokens",
                                           "loss",
                                           "grad_norm",
                                           "clip_factor",
                                           "loss_scale",
                                           "skipped",
                                           "lr_decay",
                                           "lr_no_decay",
                                           "seconds",
                                           "loss_llava",
                                           "loss_coco_caption",
                                           "labelled_tokens_llava",
                                           "labelled_tokens_coco_caption"};
  EXPECT_EQ(rows[1], header);
  ASSERT_EQ(rows[2].size(), header.size());
  const double expected[] = {
      7, 2, 3,        11,     4097,  97,    0.1 + 0.2, 1.0 / 3, std::nextafter(1.0, 0.0),
      1, 1, 1e-3 / 7, 5e-324, 0.125, 0.625, 0,         4,       0};
  for (size_t i = 0; i < header.size(); ++i)
    EXPECT_EQ(std::strtod(rows[2][i].c_str(), nullptr), expected[i]) << header[i];
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
  EXPECT_EQ(rows[2][6], "1.5");
}

// A limit on the size of files plays the full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int) = nullptr;
};

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
  EXPECT_EQ(rows[0][0], "# facet eval log v1");
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
