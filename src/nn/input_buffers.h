// Memory for what a micro-batch brings from the host (pixels, rows of tokens, angles, labels),
// apart from the activations: where a backend copies beside its operators there are two buffers,
// and one micro-batch is on its way into one while the micro-batch in the other is computed.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "device/arena.h"
#include "ops/ops.h"

namespace facet {

class InputBuffers {
 public:
  // Measures.
  explicit InputBuffers(Backend& ops);
  // Takes `bytes` bytes for each buffer.
  InputBuffers(Backend& ops, int64_t bytes);

  // A micro-batch begins. What the one before the last brought is gone.
  void begin();
  // A tensor of this micro-batch with the host's values, which the caller may reuse at once.
  Tensor copy(std::initializer_list<int64_t> shape, DType dtype, const void* host);

  int64_t peak() const;  // bytes of one micro-batch, at most

 private:
  Backend& ops_;
  std::array<Arena, Backend::kInputBuffers> buffers_;
  size_t current_ = 0;
};

}  // namespace facet
