// A tensor in device memory as launchers take it: a plain struct. Kernels do not use Tensor, so
// that nvcc parses few headers; operand_of.h converts Tensors.
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
