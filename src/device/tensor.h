// Tensor: a non-owning view of memory (of an Arena or a file buffer): pointer, shape, element type,
// space. Row-major. The last dimension is dense; rows may be further apart than they are long
// (`row_stride`), so that a column block of a matrix is a Tensor too.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "base/check.h"
#include "base/dtype.h"

namespace facet {

enum class Space : uint8_t { kHost, kDevice };

class Tensor {
 public:
  static constexpr int kMaxDims = 4;

  Tensor() = default;
  Tensor(void* data, std::initializer_list<int64_t> shape, DType dtype, Space space = Space::kHost);

  void* raw() const { return data_; }
  template <typename T>
  T* data() const {
    return static_cast<T*>(data_);
  }
  float* f32() const {
    ASSERT(dtype_ == DType::kF32, "expected fp32, the tensor is {}", name_of(dtype_));
    return static_cast<float*>(data_);
  }
  int32_t* i32() const {
    ASSERT(dtype_ == DType::kI32, "expected int32, the tensor is {}", name_of(dtype_));
    return static_cast<int32_t*>(data_);
  }

  // The words of a bf16 or fp16 tensor (base/half.h reads them).
  uint16_t* bits16() const {
    ASSERT(is_16_bit(dtype_), "expected bf16 or fp16, the tensor is {}", name_of(dtype_));
    return static_cast<uint16_t*>(data_);
  }

  bool defined() const { return dims_ > 0; }  // a default-constructed Tensor means "none"
  int dims() const { return dims_; }
  int64_t size(int dim) const {
    ASSERT(dim >= 0 && dim < dims_, "dimension {} of a tensor with {}", dim, dims_);
    return shape_[static_cast<size_t>(dim)];
  }
  int64_t numel() const;
  int64_t bytes() const { return numel() * size_of(dtype_); }  // without the gaps between rows
  DType dtype() const { return dtype_; }
  Space space() const { return space_; }

  // As a matrix: all leading dimensions are folded into rows.
  int64_t cols() const { return shape_[static_cast<size_t>(dims_ - 1)]; }
  int64_t rows() const { return cols() == 0 ? 0 : numel() / cols(); }
  int64_t row_stride() const { return row_stride_; }  // elements from one row to the next
  bool dense() const { return row_stride_ == cols() || rows() <= 1; }

  // The same memory with another shape of as many elements; the tensor must be dense.
  Tensor view(std::initializer_list<int64_t> shape) const;
  // Rows [begin, begin+count) of the matrix, shape (count, cols).
  Tensor row_block(int64_t begin, int64_t count) const;
  // Columns [begin, begin+count) of the matrix, shape (rows, count), row_stride kept.
  Tensor column_block(int64_t begin, int64_t count) const;

  // Elements [begin, begin+count) of a dense tensor, shape (count).
  Tensor range(int64_t begin, int64_t count) const;

  std::string shape_string() const;  // "(4, 128)"

 private:
  void* data_ = nullptr;
  std::array<int64_t, kMaxDims> shape_{};
  int dims_ = 0;
  int64_t row_stride_ = 0;
  DType dtype_ = DType::kF32;
  Space space_ = Space::kHost;
};

}  // namespace facet
