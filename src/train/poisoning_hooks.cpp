#include "train/poisoning_hooks.h"

#include <algorithm>
#include <limits>

#include "base/progress.h"

namespace facet {

void PoisoningHooks::before(int unit, Phase phase) {
  if (phase == Phase::kForward) done_ = false;  // a new pass
  ForwardingHooks::before(unit, phase);
}

void PoisoningHooks::after(int unit, Phase phase) {
  if (phase == Phase::kBackward && !done_ && faults_.poisons(rank_, my_progress().step)) {
    const std::vector<Param*>& params = unit_of(unit).params;
    const auto trained = std::find_if(params.begin(), params.end(),
                                      [](const Param* param) { return param->trained; });
    if (trained != params.end()) {
      ops_.fill((*trained)->grad.view({(*trained)->numel()}).range(0, 1),
                std::numeric_limits<float>::quiet_NaN());
      done_ = true;
    }
  }
  ForwardingHooks::after(unit, phase);
}

}  // namespace facet
