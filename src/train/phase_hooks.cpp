#include "train/phase_hooks.h"

namespace facet {

// What is computed again serves the backward pass. With stage 3 the unit is gathered in the phase
// that needs it.
void PhaseHooks::before(int unit, Phase phase) {
  clock_.change_to(phase == Phase::kForward ? StepPhase::kForward : StepPhase::kBackward);
  ForwardingHooks::before(unit, phase);
}

void PhaseHooks::gradients_ready(int unit) {
  clock_.change_to(StepPhase::kReduce);
  ForwardingHooks::gradients_ready(unit);
  clock_.change_to(StepPhase::kBackward);
}

}  // namespace facet
