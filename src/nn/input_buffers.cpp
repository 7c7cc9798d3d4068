#include "nn/input_buffers.h"

#include <algorithm>

namespace facet {

InputBuffers::InputBuffers(Backend& ops)
    : ops_(ops),
      buffers_{Arena("inputs", ops.input_memory()), Arena("inputs", ops.input_memory())} {}

InputBuffers::InputBuffers(Backend& ops, int64_t bytes) : InputBuffers(ops) {
  for (Arena& buffer : buffers_) buffer.allocate(bytes);
}

void InputBuffers::begin() {
  current_ = static_cast<size_t>(ops_.next_inputs());
  buffers_[current_].release(0);
}

Tensor InputBuffers::copy(std::initializer_list<int64_t> shape, DType dtype, const void* host) {
  const Tensor y = buffers_[current_].tensor(shape, dtype);
  if (y.numel() > 0) ops_.copy_input(y, host);
  return y;
}

int64_t InputBuffers::peak() const {
  int64_t bytes = 0;
  for (const Arena& buffer : buffers_) bytes = std::max(bytes, buffer.peak());
  return bytes;
}

}  // namespace facet
