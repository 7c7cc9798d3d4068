// What stands on the console during a run.
#include "train/console.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

TEST(Console, TheBarFitsTheTerminal) {
  const std::string text = bar_text(123'456, 1'234'567, 12.3456, 360'000);
  EXPECT_EQ(text, "step 123456 of 1234567  loss 12.3456  100:00:00 left");
  EXPECT_EQ(bar_line(1, 2, "step 1 of 2", 80),
            "[###############...............]  50 %  step 1 of 2");
  for (const int64_t columns : {80, 70, 60, 40, 12, 3, 0}) {
    const std::string line = bar_line(123'456, 1'234'567, text, columns);
    EXPECT_LE(static_cast<int64_t>(line.size()), columns) << line;
  }
  EXPECT_EQ(bar_line(1, 2, text, 80), "[#########.........]  50 %  " + text);  // a shorter bar
  EXPECT_EQ(bar_line(2, 2, text, 40), "[#####] 100 %  step 123456 of 1234567...");
}

TEST(Console, ALineTellsTheTimeLeft) {
  WorkPlan plan;
  plan.total_steps = 4;
  plan.steps_per_epoch = 4;
  plan.evaluates = true;
  Console console(plan, 2, 0.9, 0.95);
  console.took(Work::kEvaluation, 60);
  StepReport report;
  report.learning_rates = {0.001};
  report.seconds = 10;
  report.tokens = 50;
  report.loss = 2.5;
  ::testing::internal::CaptureStdout();
  for (report.step = 1; report.step <= 2; ++report.step) console.show(report);
  EXPECT_EQ(::testing::internal::GetCapturedStdout(),
            "step=2, skipped=0, lr=[0.001], mom=[(0.9, 0.95)], loss=2.5, tokens/s=5, "
            "left=0:01:20 of 4 steps\n");
}

}  // namespace
}  // namespace facet
