// What a run writes for TensorBoard, and that no step stands twice after a resume.
#include "train/tensorboard.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

StepReport step_report(double loss, int64_t samples) {
  StepReport report;
  report.samples = samples;
  report.tokens = 600;
  report.loss = loss;
  report.grad_norm = 0.5;
  report.loss_scale = 256;
  report.learning_rates = {1e-3, 1e-5};
  report.seconds = 2;
  report.memory_bytes = 4096;
  report.model_flops = 6000;
  report.phases.nanoseconds = {1'000'000, 2'000'000, 4'000'000, 8'000'000, 16'000'000};
  report.datasets = {{6.0, 4}, {0.0, 0}};
  return report;
}

EvalReport eval_report(double loss) {
  EvalReport report;
  report.loss = loss;
  report.datasets = {{3.0, 2}, {1.0, 1}};
  return report;
}

class TensorBoardTest : public ::testing::Test {
 protected:
  TensorBoardTest() {
    options_.output_dir = directory_.path();
    options_.enable_tensorboard = true;
  }
  TensorBoard open() const { return TensorBoard(options_, state_, "c1", {"llava", "llava_dial"}); }

  // As a reader of the directory shows them: a session start drops what came for its step and
  // later.
  std::multimap<int64_t, float> shown(const std::string& tag) const {
    std::multimap<int64_t, float> points;
    for (const std::string& path : event_files(directory_ / options_.tensorboard_job_name))
      for (const Event& event : read_events(path)) {
        if (event.session_start) points.erase(points.lower_bound(event.step), points.end());
        for (const Scalar& scalar : event.scalars)
          if (scalar.tag == tag) points.emplace(event.step, scalar.value);
      }
    return points;
  }

  TemporaryDirectory directory_;
  Options options_;
  RunState state_;
};

using Points = std::multimap<int64_t, float>;

TEST_F(TensorBoardTest, TagsAndSteps) {
  options_.precision = "fp16";
  options_.tensorboard_job_name = "job";
  TensorBoard board = open();
  board.append(eval_report(4));
  board.append(step_report(1.5, 3));
  board.append(step_report(1.25, 4));
  board.append(eval_report(2));
  EXPECT_EQ(shown("Train/Samples/train_loss"), (Points{{3, 1.5F}, {7, 1.25F}}));
  EXPECT_EQ(shown("Train/Samples/train_loss/llava"), (Points{{3, 1.5F}, {7, 1.5F}}));
  EXPECT_TRUE(shown("Train/Samples/train_loss/llava_dial").empty());
  EXPECT_EQ(shown("Train/Samples/lr"), (Points{{3, 1e-3F}, {7, 1e-3F}}));
  EXPECT_EQ(shown("Train/Samples/loss_scale"), (Points{{3, 256}, {7, 256}}));
  EXPECT_EQ(shown("Train/gradient_norm").begin()->second, 0.5F);
  EXPECT_EQ(shown("Train/tokens_per_second").begin()->second, 300);
  EXPECT_EQ(shown("Train/memory_bytes").begin()->second, 4096);
  EXPECT_EQ(shown("Train/model_flops_per_second").begin()->second, 3000);
  EXPECT_EQ(shown("Eval/loss"), (Points{{0, 4}, {7, 2}}));
  EXPECT_EQ(shown("Eval/loss/llava_dial"), (Points{{0, 1}, {7, 1}}));
}

// DeepSpeed's `backward` holds the reduction.
TEST_F(TensorBoardTest, PhasesWithTheBreakdownOnly) {
  const auto phase = [&](const std::string& name) {
    return shown("Train/Samples/elapsed_time_ms_" + name);
  };
  open().append(step_report(1.5, 3));
  EXPECT_TRUE(phase("forward").empty());
  options_.wall_clock_breakdown = true;
  open().append(step_report(1.5, 3));
  EXPECT_EQ(phase("forward"), (Points{{3, 2}}));
  EXPECT_EQ(phase("backward"), (Points{{3, 12}}));
  EXPECT_EQ(phase("backward_inner"), (Points{{3, 4}}));
  EXPECT_EQ(phase("backward_allreduce"), (Points{{3, 8}}));
  EXPECT_EQ(phase("step"), (Points{{3, 16}}));
}

TEST_F(TensorBoardTest, AnswersAreTexts) {
  TensorBoard board = open();
  board.append(step_report(1, 5));
  SampleLine sample{.test = "one", .round = 1, .question = {"What?", {}}, .answer = {"a circle"}};
  SampleLine failed = sample;
  failed.answer = {.error = "no such file"};
  board.append({sample, failed});
  const std::string file = event_files(directory_ / options_.tensorboard_job_name).back();
  const Event last = read_events(file).back();
  EXPECT_EQ(last.step, 5);
  ASSERT_EQ(last.texts.size(), 2u);
  EXPECT_EQ(last.texts[0].tag, "Samples/one/1");
  EXPECT_EQ(last.texts[0].text, "What?\n\n---\n\na circle");
  EXPECT_EQ(last.texts[1].text, "What?\n\n---\n\nno such file");
}

// Steps after the checkpoint are taken again.
TEST_F(TensorBoardTest, NoStepStandsTwiceAfterAResume) {
  {
    TensorBoard board = open();
    board.append(eval_report(4));
    for (int step = 0; step < 4; ++step) board.append(step_report(step, 2));
    board.append(eval_report(3));
  }
  state_.step = 2;
  state_.samples_seen = 4;
  TensorBoard board = open();
  for (int step = 2; step < 5; ++step) board.append(step_report(10 + step, 2));
  EXPECT_EQ(shown("Train/Samples/train_loss"),
            (Points{{2, 0}, {4, 1}, {6, 12}, {8, 13}, {10, 14}}));
  EXPECT_EQ(shown("Eval/loss"), (Points{{0, 4}}));
}

// The checkpoint is of before the evaluation, the kill came after it.
TEST_F(TensorBoardTest, AnEvaluationMadeAgainStandsOnce) {
  {
    TensorBoard board = open();
    board.append(step_report(1, 2));
    board.append(eval_report(3));
  }
  state_.step = 1;
  state_.samples_seen = 2;
  TensorBoard board = open();
  board.append(eval_report(3));
  board.append(step_report(2, 2));
  board.append(eval_report(2));
  EXPECT_EQ(shown("Train/Samples/train_loss"), (Points{{2, 1}, {4, 2}}));
  EXPECT_EQ(shown("Eval/loss"), (Points{{2, 3}, {4, 2}}));
}

// A run without a checkpoint begins again.
TEST_F(TensorBoardTest, ANewRunTakesThePlaceOfTheOldOne) {
  { open().append(step_report(1, 2)); }
  open().append(step_report(5, 3));
  EXPECT_EQ(shown("Train/Samples/train_loss"), (Points{{3, 5}}));
}

}  // namespace
}  // namespace facet
