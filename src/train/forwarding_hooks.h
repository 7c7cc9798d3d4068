// Hooks that forward every call to others: the base of those that watch or disturb a pass.
#pragma once

#include "nn/context.h"
#include "nn/param_table.h"

namespace facet {

class ForwardingHooks : public UnitHooks {
 public:
  ForwardingHooks(const ParamTable& table, UnitHooks& inner, Backend& ops)
      : ops_(ops), table_(table), inner_(inner) {}
  void before(int unit, Phase phase) override { inner_.before(unit, phase); }
  void after(int unit, Phase phase) override { inner_.after(unit, phase); }
  void gradients_ready(int unit) override { inner_.gradients_ready(unit); }
  void wrote(int unit, Phase phase, const Tensor& x) override { inner_.wrote(unit, phase, x); }

 protected:
  const ParamTable& table() const { return table_; }
  const ParamUnit& unit_of(int unit) const { return table_.units()[static_cast<size_t>(unit)]; }

  Backend& ops_;

 private:
  const ParamTable& table_;
  UnitHooks& inner_;
};

}  // namespace facet
