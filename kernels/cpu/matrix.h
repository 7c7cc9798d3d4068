// A Tensor of fp32 as the loops want it: plain numbers, read once.
#pragma once

#include <cstdint>

#include "device/tensor.h"

namespace facet {

struct Matrix {
  float* data = nullptr;  // null for an absent tensor
  int64_t rows = 0, cols = 0, stride = 0;

  Matrix() = default;
  explicit Matrix(const Tensor& t) {
    if (!t.defined()) return;
    data = t.f32();
    rows = t.rows();
    cols = t.cols();
    stride = t.row_stride();
  }
  float* row(int64_t r) const { return data + r * stride; }
  bool dense() const { return stride == cols || rows <= 1; }
};

// An optional vector (bias, weight gradient): null when absent.
inline float* optional_f32(const Tensor& t) { return t.defined() ? t.f32() : nullptr; }

}  // namespace facet
