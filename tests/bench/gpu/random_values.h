// Random bf16 numbers in device memory. They are drawn once on the host, a few million, and
// repeated on the device: a product of zeros takes a GPU less power and less time than one of
// numbers.
#pragma once

#include <span>
#include <vector>

#include "device/arena.h"
#include "ops/ops.h"

namespace facet::bench {

class RandomValues {
 public:
  // Uniform within +-bound.
  RandomValues(Backend& ops, float bound);

  // x: dense, bf16.
  void fill(Tensor x) const;
  // The same numbers in fp32.
  void fill(std::span<float> x) const;

 private:
  Backend& ops_;
  std::vector<float> numbers_;
  Arena arena_;
  Tensor on_device_;
};

}  // namespace facet::bench
