// What the kernels on tensor cores have in common: fragments, and loading them from shared tiles.
//
// Fragments of mma.m16n8k16, with lane = 4 g + t: A (16,16) holds rows g and g + 8, columns 2t,
// 2t+1 and those + 8; B (16,8) holds column g, rows 2t, 2t+1 and those + 8; C (16,8) holds rows g
// and g + 8, columns 2t, 2t+1. So two neighbouring C fragments form an A fragment.
#pragma once

#include "kernels/gpu.h"

namespace facet::cuda::mma {

// Row stride of shared tiles: padded by 16 bytes, so that the eight rows of an ldmatrix are in
// different banks.
template <int kWidth>
constexpr int kStride = kWidth + 8;

GPU_DEVICE int lane_of_thread() { return static_cast<int>(threadIdx.x % unsigned{gpu::kWarpSize}); }

// Loads A (16,16) from a row-major tile, given its first element.
template <int kWidth, typename T>
GPU_DEVICE void load_a(uint32_t (&a)[4], const T* tile) {
  const int lane = lane_of_thread();
  gpu::ldmatrix_x4(a, tile + lane % 16 * kStride<kWidth> + lane / 16 * 8);
}

// Row k of the tile is column k of A.
template <int kWidth, typename T>
GPU_DEVICE void load_a_of_columns(uint32_t (&a)[4], const T* tile) {
  const int lane = lane_of_thread();
  gpu::ldmatrix_x4_transposed(
      a, tile + (lane / 16 * 8 + lane % 8) * kStride<kWidth> + lane / 8 % 2 * 8);
}

// Load two neighbouring B (16,8) each.
struct TwoB {
  uint32_t b[2][2];
};
// Row n of the tile is column n of B: 16 columns, 16 values of k.
template <int kWidth, typename T>
GPU_DEVICE TwoB load_b_of_columns(const T* tile) {
  const int lane = lane_of_thread();
  uint32_t r[4];
  gpu::ldmatrix_x4(r, tile + (lane / 16 * 8 + lane % 8) * kStride<kWidth> + lane / 8 % 2 * 8);
  return {{{r[0], r[1]}, {r[2], r[3]}}};
}
// Row k of the tile is row k of B.
template <int kWidth, typename T>
GPU_DEVICE TwoB load_b_of_rows(const T* tile) {
  const int lane = lane_of_thread();
  uint32_t r[4];
  gpu::ldmatrix_x4_transposed(r, tile + lane % 16 * kStride<kWidth> + lane / 16 * 8);
  return {{{r[0], r[1]}, {r[2], r[3]}}};
}

}  // namespace facet::cuda::mma
