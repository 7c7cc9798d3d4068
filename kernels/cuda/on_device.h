// Tensors as arguments of launchers, with checks of what kernels rely on: device memory, one
// element type, dense vectors. A violation is a bug, and the message names the operator's line.
#pragma once

#include <initializer_list>
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

inline void check_vector(const Tensor& t, OperatorSite where) {
  check_on_device(t, where);
  ASSERT(t.dense(), "{}:{}: vector {} is not dense", where.file_name(), where.line(),
         t.shape_string());
}

// Dense fp32 or int32; null if absent.
inline float* f32_on_device(const Tensor& t, OperatorSite where = OperatorSite::current()) {
  if (!t.defined()) return nullptr;
  check_vector(t, where);
  return t.f32();
}
inline const int32_t* i32_on_device(const Tensor& t, OperatorSite where = OperatorSite::current()) {
  if (!t.defined()) return nullptr;
  check_vector(t, where);
  return t.i32();
}

// The matrices of one call, absent ones ignored, must have one type: a launcher looks at one of
// them only.
inline void check_one_type(std::initializer_list<Tensor> matrices,
                           OperatorSite where = OperatorSite::current()) {
  const Tensor* first = nullptr;
  for (const Tensor& t : matrices) {
    if (!t.defined()) continue;
    if (!first) first = &t;
    ASSERT(t.dtype() == first->dtype(), "{}:{}: {} {} and {} {} in one call", where.file_name(),
           where.line(), name_of(first->dtype()), first->shape_string(), name_of(t.dtype()),
           t.shape_string());
  }
}

// The same for their shapes as matrices.
inline void check_one_shape(std::initializer_list<Tensor> matrices,
                            OperatorSite where = OperatorSite::current()) {
  const Tensor* first = nullptr;
  for (const Tensor& t : matrices) {
    if (!t.defined()) continue;
    if (!first) first = &t;
    ASSERT(t.rows() == first->rows() && t.cols() == first->cols(), "{}:{}: {} and {} in one call",
           where.file_name(), where.line(), first->shape_string(), t.shape_string());
  }
}

}  // namespace facet::cuda
