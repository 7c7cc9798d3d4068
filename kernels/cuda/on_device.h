// Tensors as arguments of launchers, with what kernels rely on: device memory, one element type,
// dense vectors. An operator that is given anything else is our bug, and the message names its
// line.
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

// A matrix; null data where it is absent.
inline Operand on_device(const Tensor& t, OperatorSite where = OperatorSite::current()) {
  check_on_device(t, where);
  return operand_of(t);
}

inline void check_vector(const Tensor& t, OperatorSite where) {
  check_on_device(t, where);
  ASSERT(t.dense(), "{}:{}: a vector {} with gaps", where.file_name(), where.line(),
         t.shape_string());
}

// Dense fp32 or int32; null where it is absent.
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

// The matrices of one call, absent ones aside: a launcher looks at the type of one of them.
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

// The same of their shapes as matrices.
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
