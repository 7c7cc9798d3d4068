// Finds out where numbers stop being finite: hooks round a pass over the model that look at what
// each layer reads, hands on and accumulates. They read all of it, from a device too, so only a
// pass that is made for this, or into which a fault is put, has them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/micro_batch.h"
#include "nn/context.h"
#include "nn/param_table.h"

namespace facet {

// Hands all calls on.
class ForwardingHooks : public UnitHooks {
 public:
  ForwardingHooks(const ParamTable& table, UnitHooks& inner, Backend& ops)
      : ops_(ops), table_(table), inner_(inner), touched_(table.units().size()) {}
  void before(int unit, Phase phase) override;
  void after(int unit, Phase phase) override { inner_.after(unit, phase); }
  void gradients_ready(int unit) override;
  void wrote(int unit, Phase phase, const Tensor& x) override { inner_.wrote(unit, phase, x); }

 protected:
  // Gradients of a unit that this micro-batch did not use are not there.
  bool touched(int unit) const { return touched_[static_cast<size_t>(unit)] != 0; }
  const ParamUnit& unit_of(int unit) const { return table_.units()[static_cast<size_t>(unit)]; }

  Backend& ops_;

 private:
  const ParamTable& table_;
  UnitHooks& inner_;
  std::vector<char> touched_;  // of each unit, since its gradients were last ready
};

// Makes the first gradient of a pass NaN.
class PoisoningHooks : public ForwardingHooks {
 public:
  using ForwardingHooks::ForwardingHooks;
  void gradients_ready(int unit) override;

 private:
  bool done_ = false;
};

class NonFiniteSearch : public ForwardingHooks {
 public:
  using ForwardingHooks::ForwardingHooks;
  void before(int unit, Phase phase) override;
  void gradients_ready(int unit) override;
  void wrote(int unit, Phase phase, const Tensor& x) override;
  void look_at_pixels(const MicroBatch& batch);

  // The first one met: "layer lang_decoder.layers.3: element 5 of its output is nan"; "" when all
  // were finite.
  const std::string& found() const { return found_; }

 private:
  void look(const std::string& what, const Tensor& x);
  Tensor on_host(const Tensor& x);

  std::string found_;
  std::vector<char> copy_;  // of what lies on a device
};

}  // namespace facet
