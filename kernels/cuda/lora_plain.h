// A matrix product in fp32 without tensor cores: for LoRA in fp32, and for 16-bit operands that the
// tensor-core kernels do not support. One block per tile of the output; sums run in the order of
// their terms.
#pragma once

#include "kernels/cuda/rows.h"

namespace facet::cuda {

// A matrix with a stride per dimension, so that a transpose is another view.
template <typename T>
struct Strided {
  T* data;
  int64_t row_step, col_step;

  GPU_DEVICE float get(int64_t row, int64_t col) const {
    return gpu::to_float(data[row * row_step + col * col_step]);
  }
  GPU_DEVICE void put(int64_t row, int64_t col, float value) const {
    data[row * row_step + col * col_step] = gpu::from_float<T>(value);
  }
};

// A matrix of numbers in two halves of 16 bits, the lower one `to_lower` elements behind the upper.
template <typename T>
struct StridedHalves {
  T* data;
  int64_t row_step, col_step, to_lower;

  GPU_DEVICE float get(int64_t row, int64_t col) const {
    const T* upper = data + row * row_step + col * col_step;
    return gpu::to_float(upper[0]) + gpu::to_float(upper[to_lower]);
  }
  GPU_DEVICE void put(int64_t row, int64_t col, float value) const {
    T* upper = data + row * row_step + col * col_step;
    upper[0] = gpu::from_float<T>(value);
    upper[to_lower] = gpu::from_float<T>(value - gpu::to_float(upper[0]));
  }
};

namespace plain {

constexpr int kTile = 32, kThreads = 256, kRowsOfThread = kTile * kTile / kThreads;
using Tile = float[kTile][kTile + 1];  // padded so that a column is in different banks, too

// Loads the tile that begins at (row, col) of x (rows, cols); zeros outside.
template <typename View>
GPU_DEVICE void load_tile(Tile& tile, const View& x, int64_t row, int64_t col, int64_t rows,
                          int64_t cols) {
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kTile; i += kThreads) {
    // Neighbouring threads read neighbouring elements.
    const bool along_cols = x.col_step == 1;
    const int r = along_cols ? i / kTile : i % kTile, c = along_cols ? i % kTile : i / kTile;
    const bool inside = row + r < rows && col + c < cols;
    tile[r][c] = inside ? x.get(row + r, col + c) : 0.0f;
  }
}

// out (M,N) = addend (M,N) + alpha left (M,K) right (K,N); the addend may be out, or have null data
// for none.
template <typename Out, typename Addend, typename Left, typename Right>
__global__ void __launch_bounds__(kThreads, 2)
    product_kernel(Out out_MN, Addend addend_MN, Left left_MK, Right right_KN, int64_t rows,
                   int64_t cols, int64_t depth, float alpha) {
  GPU_SHARED(float, left, [kTile][kTile + 1]);
  GPU_SHARED(float, right, [kTile][kTile + 1]);
  const int64_t first_row = int64_t{blockIdx.x} * kTile, first_col = int64_t{blockIdx.y} * kTile;
  const int c = static_cast<int>(threadIdx.x) % kTile, r0 = static_cast<int>(threadIdx.x) / kTile;
  float sum[kRowsOfThread] = {};
  for (int64_t k = 0; k < depth; k += kTile) {
    load_tile(left, left_MK, first_row, k, rows, depth);
    load_tile(right, right_KN, k, first_col, depth, cols);
    __syncthreads();
    for (int i = 0; i < kTile; ++i)
#pragma unroll
      for (int j = 0; j < kRowsOfThread; ++j)
        sum[j] += left[r0 + j * (kThreads / kTile)][i] * right[i][c];
    __syncthreads();  // all threads have read the tiles
  }
  for (int j = 0; j < kRowsOfThread; ++j) {
    const int64_t row = first_row + r0 + j * (kThreads / kTile), col = first_col + c;
    if (row >= rows || col >= cols) continue;
    const float before = addend_MN.data ? addend_MN.get(row, col) : 0.0f;
    out_MN.put(row, col, before + alpha * sum[j]);
  }
}

}  // namespace plain
}  // namespace facet::cuda
