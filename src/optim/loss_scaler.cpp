#include "optim/loss_scaler.h"

#include <algorithm>

#include "base/check.h"

namespace facet {

LossScaler::LossScaler(const LossScalerOptions& options)
    : options_(options),
      state_{options.fixed_scale > 0 ? options.fixed_scale : options.initial_scale,
             options.hysteresis, 0} {
  ASSERT(options.window >= 1 && options.hysteresis >= 1 && state_.scale > 0,
         "a loss scale of {} with a window of {} steps and a hysteresis of {}", state_.scale,
         options.window, options.hysteresis);
}

bool LossScaler::exhausted() const {
  return options_.fixed_scale == 0 && state_.hysteresis <= 1 && state_.scale <= options_.min_scale;
}

void LossScaler::good_step() {
  if (options_.fixed_scale > 0 || ++state_.good_steps < options_.window) return;
  state_.good_steps = 0;
  state_.scale *= 2;
  state_.hysteresis = options_.hysteresis;
}

void LossScaler::overflow() {
  if (options_.fixed_scale > 0) return;
  state_.good_steps = 0;
  if (state_.hysteresis > 1)
    --state_.hysteresis;
  else
    state_.scale = std::max(options_.min_scale, state_.scale / 2);
}

void LossScaler::restore(const LossScalerState& state) {
  if (options_.fixed_scale > 0) return;
  state_ = state;
}

}  // namespace facet
