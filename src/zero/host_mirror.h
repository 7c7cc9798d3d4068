// Makes vectors accessible on the host: those in host memory directly, those in device memory as
// copies that can be written back.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "device/arena.h"
#include "ops/ops.h"

namespace facet {

class HostMirror {
 public:
  // Of vectors that are all in that space, on the host or on the device of `ops`.
  HostMirror(Backend& ops, Space space) : ops_(ops), space_(space) {}

  // Does show() make copies?
  bool copies() const { return space_ != Space::kHost; }

  // Host pointers to these fp32 vectors, valid until the next call.
  std::vector<float*> show(std::span<const Tensor> vectors);
  // Copies the copies back to the device.
  void write_back();

 private:
  Backend& ops_;
  Space space_;
  std::unique_ptr<Arena> memory_;  // grown to the most elements ever shown
  std::vector<Tensor> vectors_, copies_;
};

}  // namespace facet
