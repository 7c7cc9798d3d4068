// Tensors as operands of launchers.
#pragma once

#include "device/tensor.h"
#include "kernels/cuda/operand.h"

namespace facet::cuda {

inline Operand operand_of(const Tensor& t) {
  if (!t.defined()) return {};
  return {t.raw(), t.rows(), t.cols(), t.row_stride(), t.dtype()};
}

}  // namespace facet::cuda
