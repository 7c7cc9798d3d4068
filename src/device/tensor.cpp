#include "device/tensor.h"

namespace facet {

Tensor::Tensor(void* data, std::initializer_list<int64_t> shape, DType dtype, Space space)
    : data_(data), dtype_(dtype), space_(space) {
  ASSERT(shape.size() >= 1 && shape.size() <= kMaxDims, "a tensor has 1 to 4 dimensions, not {}",
         shape.size());
  for (const int64_t size : shape) {
    ASSERT(size >= 0, "negative size {}", size);
    shape_[static_cast<size_t>(dims_++)] = size;
  }
  row_stride_ = cols();
}

int64_t Tensor::numel() const {
  if (dims_ == 0) return 0;
  int64_t n = 1;
  for (int d = 0; d < dims_; ++d) n *= shape_[static_cast<size_t>(d)];
  return n;
}

Tensor Tensor::view(std::initializer_list<int64_t> shape) const {
  ASSERT(dense(), "a view needs dense rows, these are {} elements apart and {} long", row_stride_,
         cols());
  Tensor result(data_, shape, dtype_, space_);
  ASSERT(result.numel() == numel(), "{} cannot be viewed as {}", shape_string(),
         result.shape_string());
  return result;
}

Tensor Tensor::row_block(int64_t begin, int64_t count) const {
  ASSERT(begin >= 0 && count >= 0 && begin + count <= rows(), "rows [{}, {}) of {}", begin,
         begin + count, shape_string());
  Tensor result(static_cast<char*>(data_) + begin * row_stride_ * size_of(dtype_), {count, cols()},
                dtype_, space_);
  result.row_stride_ = row_stride_;
  return result;
}

Tensor Tensor::column_block(int64_t begin, int64_t count) const {
  ASSERT(begin >= 0 && count >= 0 && begin + count <= cols(), "columns [{}, {}) of {}", begin,
         begin + count, shape_string());
  Tensor result(static_cast<char*>(data_) + begin * size_of(dtype_), {rows(), count}, dtype_,
                space_);
  result.row_stride_ = row_stride_;
  return result;
}

Tensor Tensor::range(int64_t begin, int64_t count) const {
  ASSERT(dense(), "a range needs dense rows, these are {} elements apart and {} long", row_stride_,
         cols());
  ASSERT(begin >= 0 && count >= 0 && begin + count <= numel(), "elements [{}, {}) of {}", begin,
         begin + count, shape_string());
  return Tensor(data<char>() + begin * size_of(dtype_), {count}, dtype_, space_);
}

std::string Tensor::shape_string() const {
  std::string text = "(";
  for (int d = 0; d < dims_; ++d)
    text += (d ? ", " : "") + std::to_string(shape_[static_cast<size_t>(d)]);
  return text + ")";
}

}  // namespace facet
