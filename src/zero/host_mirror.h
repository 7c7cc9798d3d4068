// Shows vectors to somebody who reads and changes them on the host: where they are there already
// themselves, where they are on a device copies.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "device/arena.h"
#include "ops/ops.h"

namespace facet {

class HostMirror {
 public:
  explicit HostMirror(Backend& ops) : ops_(ops) {}

  // Are the shown ones copies?
  bool copies() const { return ops_.memory().space() != Space::kHost; }

  // Where each of these fp32 vectors can be read, until the next call. Copies are as of this call.
  std::vector<float*> show(std::span<const Tensor> vectors);
  // Brings the copies back to where they came from.
  void take_back();

 private:
  Backend& ops_;
  std::unique_ptr<Arena> memory_;  // for as many elements as were ever shown
  std::vector<Tensor> vectors_, copies_;
};

}  // namespace facet
