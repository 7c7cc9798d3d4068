// Tensors as arguments of launchers, in device memory. Shapes and types have been checked by
// Backend; an operator that is given host memory is our bug, and the message names its line.
#pragma once

#include <source_location>

#include "kernels/cuda/operand_of.h"

namespace facet::cuda {

using OperatorSite = std::source_location;

inline void check_on_device(const Tensor& t, OperatorSite where) {
  ASSERT(!t.defined() || t.space() == Space::kDevice,
         "{}:{}: an operator of the CUDA backend was given a tensor {} in host memory",
         where.file_name(), where.line(), t.shape_string());
}

// A matrix; null data if absent.
inline Operand on_device(const Tensor& t, OperatorSite where = OperatorSite::current()) {
  check_on_device(t, where);
  return operand_of(t);
}

// Dense fp32 or int32; null where it is absent.
inline float* f32_on_device(const Tensor& t, OperatorSite where = OperatorSite::current()) {
  if (!t.defined()) return nullptr;
  check_on_device(t, where);
  return t.f32();
}
inline const int32_t* i32_on_device(const Tensor& t, OperatorSite where = OperatorSite::current()) {
  if (!t.defined()) return nullptr;
  check_on_device(t, where);
  return t.i32();
}

}  // namespace facet::cuda
