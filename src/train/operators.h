// The operators of a run: the CPU's, and over them 16-bit storage for a run in bf16 or fp16.
#pragma once

#include <optional>

#include "kernels/cpu/backend.h"
#include "ops/half_storage.h"

namespace facet {

class Operators {
 public:
  Operators(int threads, DType compute_dtype) : cpu_(threads) {
    if (is_16_bit(compute_dtype)) half_.emplace(cpu_);
  }
  // Once, before the first pass: MemoryPlan::panels.
  void allocate_panels(int64_t bytes) {
    if (half_) half_->allocate(bytes);
  }

  Backend& backend() {
    if (half_) return *half_;
    return cpu_;
  }

 private:
  CpuBackend cpu_;
  std::optional<HalfStorage> half_;
};

}  // namespace facet
