// --inject nan@grad: makes the first gradient of every pass of a poisoned step NaN.
#pragma once

#include "job/fault_injection.h"
#include "train/forwarding_hooks.h"

namespace facet {

class PoisoningHooks : public ForwardingHooks {
 public:
  // `faults` say which steps of this rank are poisoned; they outlive the hooks.
  PoisoningHooks(const ParamTable& table, UnitHooks& inner, Backend& ops,
                 const FaultInjection& faults, int rank)
      : ForwardingHooks(table, inner, ops), faults_(faults), rank_(rank) {}

  void before(int unit, Phase phase) override;
  // Not when the gradients are ready: hooks around these look at them then, and must find the NaN.
  void after(int unit, Phase phase) override;

 private:
  const FaultInjection& faults_;
  int rank_;
  bool done_ = false;  // in this pass
};

}  // namespace facet
