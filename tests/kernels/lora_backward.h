// LoRA's backward kernels on a workspace that is as large as they ask for.
#pragma once

#include <algorithm>

#include "kernels/cuda/launchers.h"
#include "tests/kernels/device_buffer.h"

namespace facet::kernel_test {

inline void lora_backward_input(std::span<const cuda::LoraOperands> parts, cuda::Operand dx,
                                cuda::Operand addend, float scale, int multiprocessors,
                                const TestStream& stream) {
  const DeviceBuffer<float> sums(std::max<int64_t>(1, cuda::lora_backward_floats(parts)));
  cuda::lora_backward_input(parts, dx, addend, scale, sums.data(), multiprocessors, stream);
  stream.synchronize();
}

}  // namespace facet::kernel_test
