// What SwiGLU's kernels have in common.
#pragma once

#include "kernels/gpu.h"

namespace facet::cuda {

GPU_DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// up = silu(gate) up. The divisions of sigmoid() would be a branch each; gates under -87 take them.
template <int N>
GPU_DEVICE void multiply_by_silu(float (&up)[N], const float (&gate)[N]) {
  constexpr float kMost = 0x1p126f;
  float divisor[N], most = 0;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    divisor[i] = 1.0f + expf(-gate[i]);
    most = fmaxf(most, divisor[i]);
  }
  if (most < kMost) {
#pragma unroll
    for (int i = 0; i < N; ++i) up[i] *= gate[i] * gpu::reciprocal_from_1(divisor[i]);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) up[i] *= gate[i] * (1.0f / divisor[i]);
  }
}

}  // namespace facet::cuda
