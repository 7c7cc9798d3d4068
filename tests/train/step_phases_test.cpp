// What the time of a step is booked on.
#include "train/step_phases.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "ops/null_backend.h"
#include "train/phase_hooks.h"

namespace facet {
namespace {

void pass(int64_t milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

TEST(StepPhases, AddUpToTheStep) {
  PhaseClock clock;
  clock.begin();
  pass(2);
  clock.change_to(StepPhase::kForward);
  pass(4);
  clock.change_to(StepPhase::kData);
  pass(2);
  const PhaseTimes times = clock.end();
  EXPECT_GE(times.seconds(StepPhase::kData), 0.004);
  EXPECT_GE(times.seconds(StepPhase::kForward), 0.004);
  EXPECT_EQ(times.seconds(StepPhase::kReduce), 0);
  EXPECT_DOUBLE_EQ(times.total(),
                   times.seconds(StepPhase::kData) + times.seconds(StepPhase::kForward));
  clock.begin();
  EXPECT_EQ(clock.end().seconds(StepPhase::kForward), 0);  // of the step before
}

// What a phase has asked of a device belongs to it.
TEST(StepPhases, EndWhenTheDeviceHasDoneItsWork) {
  int waits = 0;
  PhaseClock clock([&] {
    ++waits;
    pass(3);
  });
  clock.begin();
  clock.change_to(StepPhase::kForward);
  clock.change_to(StepPhase::kForward);  // goes on
  clock.change_to(StepPhase::kBackward);
  const PhaseTimes times = clock.end();
  EXPECT_EQ(waits, 3);
  for (const StepPhase phase : {StepPhase::kData, StepPhase::kForward, StepPhase::kBackward})
    EXPECT_GE(times.seconds(phase), 0.003);
}

// Takes longer for each kind of call.
class SlowHooks : public UnitHooks {
 public:
  void before(int, Phase phase) override {
    pass(phase == Phase::kForward ? 3 : phase == Phase::kRecompute ? 5 : 7);
  }
  void gradients_ready(int) override { pass(9); }
};

TEST(StepPhases, APassIsForwardThenBackward) {
  ParamTable table;
  NullBackend ops;
  SlowHooks slow;
  PhaseClock clock;
  PhaseHooks hooks(table, slow, ops, clock);
  clock.begin();
  hooks.before(0, Phase::kForward);
  hooks.after(0, Phase::kForward);
  hooks.before(0, Phase::kBackward);
  hooks.before(0, Phase::kRecompute);  // what is computed again serves the backward pass
  hooks.gradients_ready(0);
  pass(1);  // the backward pass goes on
  const PhaseTimes times = clock.end();
  EXPECT_GE(times.seconds(StepPhase::kForward), 0.003);
  EXPECT_GE(times.seconds(StepPhase::kBackward), 0.013);
  EXPECT_GE(times.seconds(StepPhase::kReduce), 0.009);
}

}  // namespace
}  // namespace facet
