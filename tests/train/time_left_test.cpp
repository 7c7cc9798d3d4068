// How long a run will take: counting the work that is left, and how long each kind takes.
#include "train/time_left.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

// 3 epochs of 10 steps.
WorkPlan plan_of_epochs() {
  WorkPlan plan;
  plan.total_steps = 30;
  plan.steps_per_epoch = 10;
  plan.evaluates = true;
  return plan;
}

void expect_left(const WorkPlan& plan, int64_t step, int64_t evaluations, int64_t saves,
                 int64_t exports) {
  SCOPED_TRACE(step);
  const WorkLeft left = work_left(plan, step);
  EXPECT_EQ(left.of(Work::kStep), plan.total_steps - step);
  EXPECT_EQ(left.of(Work::kEvaluation), evaluations);
  EXPECT_EQ(left.of(Work::kSave), saves);
  EXPECT_EQ(left.of(Work::kExport), exports);
}

// What follows the step just taken is still to come.
TEST(TimeLeft, EpochsEndWithAnEvaluationTwoSavesAndAnExport) {
  expect_left(plan_of_epochs(), 0, 3, 6, 3);
  expect_left(plan_of_epochs(), 10, 3, 6, 3);
  expect_left(plan_of_epochs(), 11, 2, 4, 2);
  expect_left(plan_of_epochs(), 30, 1, 2, 1);
}

TEST(TimeLeft, ExportsAreMadeEverySoManyEpochsAndAtTheEnd) {
  WorkPlan plan = plan_of_epochs();
  plan.export_every = 2;  // after 20, and the last
  expect_left(plan, 1, 3, 6, 2);
  expect_left(plan, 21, 1, 2, 1);
  plan.export_every = 0;
  expect_left(plan, 1, 3, 6, 0);
}

TEST(TimeLeft, QuestionsAreAskedEverySoManyStepsAndAtTheEnd) {
  WorkPlan plan = plan_of_epochs();
  EXPECT_EQ(work_left(plan, 1).of(Work::kSampling), 0);
  plan.samples = true;
  EXPECT_EQ(work_left(plan, 11).of(Work::kSampling), 2);
  plan.sample_interval = 7;  // after 7, 14, 21, 28 and 30
  EXPECT_EQ(work_left(plan, 14).of(Work::kSampling), 4);
  WorkTimes times;
  times.add(Work::kSampling, 3);
  EXPECT_EQ(seconds_left(plan, 14, times), 12);
}

TEST(TimeLeft, TheLastEpochMayBeCutShort) {
  WorkPlan plan = plan_of_epochs();
  plan.total_steps = 25;
  expect_left(plan, 1, 3, 6, 3);
  expect_left(plan, 21, 1, 2, 1);
  plan.total_steps = 5;
  expect_left(plan, 1, 1, 2, 1);
}

TEST(TimeLeft, IntervalsCountTheirOwnSteps) {
  WorkPlan plan = plan_of_epochs();
  plan.eval_interval = 4;  // after 4, 8, ..., 28, and the last
  plan.save_interval = 5;  // 10, 20 and 30 are saved anyway
  expect_left(plan, 1, 8, 6 + 3, 3);
  expect_left(plan, 8, 7, 6 + 2, 3);
  expect_left(plan, 26, 2, 2, 1);
  plan.total_steps = 25;  // a multiple, and the end
  expect_left(plan, 21, 2, 2, 1);
  plan.save_interval = int64_t{1} << 40;
  expect_left(plan, 21, 2, 2, 1);
}

TEST(TimeLeft, WithoutASplitNothingIsEvaluated) {
  WorkPlan plan = plan_of_epochs();
  plan.evaluates = false;
  expect_left(plan, 1, 0, 6, 3);
}

TEST(TimeLeft, EachKindOfWorkTakesWhatItTookSoFar) {
  WorkTimes times;
  EXPECT_EQ(seconds_left(plan_of_epochs(), 1, times), 0);
  times.add(Work::kStep, 2);
  EXPECT_DOUBLE_EQ(seconds_left(plan_of_epochs(), 1, times), 29 * 2);
  times.add(Work::kStep, 4);
  times.add(Work::kEvaluation, 10);
  times.add(Work::kSave, 1);
  times.add(Work::kExport, 5);
  EXPECT_DOUBLE_EQ(seconds_left(plan_of_epochs(), 1, times), 29 * 3 + 3 * 10 + 6 * 1 + 3 * 5);
  EXPECT_DOUBLE_EQ(seconds_left(plan_of_epochs(), 30, times), 10 + 2 * 1 + 5);
}

// Only as far as the other saves leave room for them.
TEST(TimeLeft, SavesByTheClock) {
  WorkPlan plan = plan_of_epochs();
  plan.save_minutes = 10;
  WorkTimes times;
  times.add(Work::kSave, 60);
  times.add(Work::kStep, 100);
  EXPECT_DOUBLE_EQ(seconds_left(plan, 1, times), 29 * 100 + 6 * 60);
  times.add(Work::kStep, 500);  // 300 each: 8700 s and 360 s of saves hold 15 of them
  EXPECT_DOUBLE_EQ(seconds_left(plan, 1, times), 29 * 300 + 15 * 60);
}

}  // namespace
}  // namespace facet
