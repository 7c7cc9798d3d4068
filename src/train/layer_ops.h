// What the layers compute with: the CPU's operators, which work in fp32, and where parameters and
// activations have 16 bits HalfStorage over them.
#pragma once

#include <cstdint>
#include <optional>

#include "kernels/cpu/backend.h"
#include "ops/half_storage.h"

namespace facet {

class LayerOps {
 public:
  explicit LayerOps(int threads) : cpu_(threads) {}

  // As measured; 0: the layers compute in fp32.
  void allocate_panels(int64_t bytes) {
    if (bytes > 0) half_.emplace(cpu_, bytes);
  }

  Backend& layers() {
    if (half_) return *half_;
    return cpu_;
  }
  // For optimizer and masters, which are fp32 always.
  Backend& plain() { return cpu_; }

 private:
  CpuBackend cpu_;
  std::optional<HalfStorage> half_;
};

}  // namespace facet
