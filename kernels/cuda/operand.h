// A tensor in device memory as launchers take it: plain numbers. Kernels know no Tensor, so that
// nvcc reads few headers; operand_of.h makes these from Tensors.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace facet::cuda {

struct Operand {
  void* data = nullptr;  // null for an absent tensor
  int64_t rows = 0, cols = 0, stride = 0;
  DType dtype = DType::kF32;
};

}  // namespace facet::cuda
