#include "train/step_phases.h"

#include <numeric>

#include "base/progress.h"

namespace facet {

namespace {

constexpr double kSecond = 1e9;  // ns

}  // namespace

double PhaseTimes::seconds(StepPhase phase) const {
  return static_cast<double>(nanoseconds[static_cast<size_t>(phase)]) / kSecond;
}

double PhaseTimes::total() const {
  return static_cast<double>(std::accumulate(nanoseconds.begin(), nanoseconds.end(), int64_t{0})) /
         kSecond;
}

PhaseTimes& PhaseTimes::operator+=(const PhaseTimes& other) {
  for (size_t i = 0; i < kNumStepPhases; ++i) nanoseconds[i] += other.nanoseconds[i];
  return *this;
}

void PhaseClock::begin() {
  times_ = {};
  phase_ = StepPhase::kData;
  since_ = steady_now();
}

void PhaseClock::change_to(StepPhase phase) {
  if (phase == phase_) return;
  settle();
  phase_ = phase;
}

PhaseTimes PhaseClock::end() {
  settle();
  return times_;
}

void PhaseClock::settle() {
  if (wait_for_device_) wait_for_device_();
  const int64_t now = steady_now();
  times_.nanoseconds[static_cast<size_t>(phase_)] += now - since_;
  since_ = now;
}

}  // namespace facet
