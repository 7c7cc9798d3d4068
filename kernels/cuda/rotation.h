// Rotary embedding of a pair of channels, as in ops/ops.h, rope_forward and rope_backward. Every
// kernel that turns rows has the same bits: products and sums are fused here, not by the compiler.
#pragma once

#include "kernels/gpu.h"

namespace facet::cuda {

struct Turned {
  float low, high;
};
// Channels c and c + E/2 of a head, turned by an angle; by its negative with that of the sine.
GPU_DEVICE Turned turned(float low, float high, float cos, float sin) {
  return {fmaf(low, cos, -(high * sin)), fmaf(high, cos, low * sin)};
}

}  // namespace facet::cuda
