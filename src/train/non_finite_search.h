// Finds out where numbers stop being finite: hooks around a pass over the model that look at what
// each layer reads, passes on and accumulates. They read all of it, from a device too, so only a
// pass made for this has them.
#pragma once

#include <string>
#include <vector>

#include "base/micro_batch.h"
#include "train/forwarding_hooks.h"

namespace facet {

class NonFiniteSearch : public ForwardingHooks {
 public:
  NonFiniteSearch(const ParamTable& table, UnitHooks& inner, Backend& ops)
      : ForwardingHooks(table, inner, ops),
        touched_(table.units().size()),
        seen_(table.units().size()) {}
  void before(int unit, Phase phase) override;
  void gradients_ready(int unit) override;
  void wrote(int unit, Phase phase, const Tensor& x) override;
  void look_at_pixels(const MicroBatch& batch);

  // The first one found: "layer lang_decoder.layers.3: element 5 of its output is nan"; "" when all
  // were finite.
  const std::string& found() const { return found_; }

 private:
  // Gradients of a unit that this micro-batch did not use do not exist.
  bool touched(int unit) const { return touched_[static_cast<size_t>(unit)] != 0; }
  void look(const std::string& what, const Tensor& x);
  Tensor on_host(const Tensor& x);

  std::string found_;
  std::vector<char> touched_;  // of each unit, since its gradients were last ready
  std::vector<char> seen_;     // of each unit: its parameters have been looked at
  std::vector<char> copy_;     // of a tensor on a device
};

}  // namespace facet
