// The loss scale of fp16 (docs/computes.md, "Loss scale"): the loss is multiplied by it before
// backward, so that small gradients are not lost, and the gradient divided by it before it is used.
// It follows the steps: down when a gradient overflows, up after a run of good ones.
#pragma once

#include <cstdint>

namespace facet {

struct LossScalerOptions {
  double fixed_scale = 0;  // 0: the scale adapts
  double initial_scale = 65536;
  int64_t window = 100;    // good steps in a row after which it is doubled
  int64_t hysteresis = 2;  // halved from this overflow on, counted since it last grew
  double min_scale = 1;
};

// The part that a checkpoint stores.
struct LossScalerState {
  double scale = 0;
  int64_t hysteresis = 0;  // overflows until it is halved, including that one
  int64_t good_steps = 0;  // in a row since it last changed or a step overflowed
};

class LossScaler {
 public:
  explicit LossScaler(const LossScalerOptions& options);

  // The scale of the next step.
  double scale() const { return state_.scale; }
  // Whether an adaptive scale is at its minimum, with no hysteresis left.
  bool exhausted() const;

  void good_step();
  void overflow();

  const LossScalerState& state() const { return state_; }
  void restore(const LossScalerState& state);

 private:
  LossScalerOptions options_;
  LossScalerState state_;
};

}  // namespace facet
