// Tensors as the loops need them: plain pointers and sizes, read once.
#pragma once

#include <cstdint>

#include "device/tensor.h"

namespace facet {

// An fp32 matrix.
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

// A Tensor of any element type as rows of bytes, to move rows.
struct ByteRows {
  char* data = nullptr;  // null for an absent tensor
  int64_t rows = 0, stride = 0;
  int64_t bytes = 0;  // of a row

  ByteRows() = default;
  explicit ByteRows(const Tensor& t) {
    if (!t.defined()) return;
    data = t.data<char>();
    rows = t.rows();
    stride = t.row_stride() * size_of(t.dtype());
    bytes = t.cols() * size_of(t.dtype());
  }
  char* row(int64_t r) const { return data + r * stride; }
};

// An optional vector (bias, weight gradient): null if absent.
inline float* optional_f32(const Tensor& t) { return t.defined() ? t.f32() : nullptr; }

}  // namespace facet
