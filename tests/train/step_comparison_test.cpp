// A repeated step beside its row of the log: equal bits, what differs, both versions of the log.
#include "train/step_comparison.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/check.h"
#include "io/file.h"
#include "tests/io/temporary_directory.h"
#include "train/loss_log.h"

namespace facet {
namespace {

const std::vector<std::string> kGroups = {"decay"}, kDatasets = {"llava", "coco"};

StepReport report() {
  StepReport r;
  r.step = 3;
  r.epoch = 1;
  r.loss = 0.1 + 0.2;
  r.grad_norm = 1.0 / 3;
  r.labelled_tokens = 7;
  r.learning_rates = {1e-3};
  r.datasets.resize(2);
  r.datasets[0].loss_sum = 2.1;
  r.datasets[0].labelled_tokens = 7;
  return r;
}

class StepComparison : public ::testing::Test {
 protected:
  std::vector<ComparedValue> compare(const StepReport& now) {
    const LogTable log(directory_.path() + "/loss_log.csv");
    return compare_with_log(now, log, *log.row_of_step(3), kGroups, kDatasets);
  }
  void write_log(const StepReport& of_step) {
    LossLog(directory_.path(), kGroups, kDatasets).append(of_step);
  }
  TemporaryDirectory directory_;
};

TEST_F(StepComparison, WhatTheLogSaysIsEqual) {
  write_log(report());
  const std::vector<ComparedValue> values = compare(report());
  EXPECT_TRUE(all_equal(values)) << differences_text(values);
  EXPECT_NE(table_text(values).find("0.30000000000000004"), std::string::npos);
}

TEST_F(StepComparison, TheLastBitCounts) {
  write_log(report());
  StepReport other = report();
  other.loss = 0.3;
  const std::vector<ComparedValue> values = compare(other);
  EXPECT_FALSE(all_equal(values));
  EXPECT_EQ(differences_text(values), "loss=0.3 (the log has 0.30000000000000004)");
}

TEST_F(StepComparison, NumbersThatAreNoneAreEqual) {
  StepReport skipped = report();
  skipped.loss = std::nan("");
  skipped.skipped = true;
  write_log(skipped);
  skipped.loss = -skipped.loss;
  EXPECT_TRUE(all_equal(compare(skipped)));
}

// A data set without labelled tokens: "0" in one version, empty in the next. A column may be gone.
TEST_F(StepComparison, BothVersionsOfTheLog) {
  for (const char* empty : {"0", ""}) {
    write_file(
        directory_.path() + "/loss_log.csv",
        fmt::format("step,loss_llava,loss_coco,labelled_tokens_coco\n3,{},{},0\n", 2.1 / 7, empty));
    for (const ComparedValue& value : compare(report())) {
      const bool there = value.column == "step" || value.column.find("_llava") == 4 ||
                         value.column.find("coco") != std::string::npos;
      EXPECT_EQ(value.equal, there) << value.column << ": " << value.now << ", " << value.logged;
    }
  }
}

}  // namespace
}  // namespace facet
