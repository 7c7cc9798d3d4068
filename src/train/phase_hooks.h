// Tells the clock of a step which phase a pass over the model is in: what the model asks of its
// hooks says so.
#pragma once

#include "train/forwarding_hooks.h"
#include "train/step_phases.h"

namespace facet {

class PhaseHooks : public ForwardingHooks {
 public:
  PhaseHooks(const ParamTable& table, UnitHooks& inner, Backend& ops, PhaseClock& clock)
      : ForwardingHooks(table, inner, ops), clock_(clock) {}

  void before(int unit, Phase phase) override;
  void gradients_ready(int unit) override;

 private:
  PhaseClock& clock_;
};

}  // namespace facet
