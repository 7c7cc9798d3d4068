// What the wall clock of a training step goes to.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <utility>

namespace facet {

enum class StepPhase : uint8_t {
  kData,       // the micro-batches, and what the ranks agree on about them
  kForward,    // without the loss, whose forward and backward are one
  kBackward,   // with the loss and, with --gradient_checkpointing, what is computed again
  kReduce,     // gradients on their way to the other ranks, and the waiting for them
  kOptimizer,  // with the exchange of the new values
};
inline constexpr size_t kNumStepPhases = 5;

struct PhaseTimes {
  std::array<int64_t, kNumStepPhases> nanoseconds{};

  double seconds(StepPhase phase) const;
  double total() const;  // seconds
  PhaseTimes& operator+=(const PhaseTimes& other);
};

// A step is in one phase at a time, so that the phases add up to the step.
//
// What a phase asks of a GPU may still run when the host goes on to the next one. With
// `wait_for_device` each phase ends when the device has done its work; empty: the host's time.
class PhaseClock {
 public:
  explicit PhaseClock(std::function<void()> wait_for_device = {})
      : wait_for_device_(std::move(wait_for_device)) {}

  void begin();  // a step, in its first phase
  void change_to(StepPhase phase);
  PhaseTimes end();

 private:
  void settle();

  std::function<void()> wait_for_device_;
  StepPhase phase_ = StepPhase::kData;
  int64_t since_ = 0;  // steady_now()
  PhaseTimes times_;
};

}  // namespace facet
