// Parameter gradients of the norms (rms_norm.cu, layer_norm.cu): dweight (D) += the sum over rows
// of dy (x - mean) rstd, dbias (D) += the sum over rows of dy. One block per kSumPacks packs of
// columns goes through all rows, so sums run in a fixed order and need no workspace. dora.cu adds
// its magnitudes' gradients alike.
#pragma once

#include "kernels/cuda/rows.h"

namespace facet::cuda {

constexpr int kSumThreads = 256;
constexpr int kSumPacks = 4;                        // neighbouring packs of columns per block
constexpr int kSumSlots = kSumThreads / kSumPacks;  // rows that a block reads at a time

template <typename T>
struct NormGradientSums {
  float *dweight_D, *dbias_D;  // each may be null
  Rows<const T> dy_ND, x_ND;
  const float *mean_N, *rstd_N;  // mean is null for RMS norm
  int64_t rows, cols;
};

// Adds the slots' partial sums of this block's columns to total_D, slot by slot.
template <int kPack>
GPU_DEVICE void add_slots(float* total_D, const float (&slots)[kSumSlots][kSumPacks * kPack],
                          int64_t first_col, int64_t cols) {
  const int col = static_cast<int>(threadIdx.x);
  if (col >= kSumPacks * kPack || first_col + col >= cols) return;
  float sum = 0;
  for (int slot = 0; slot < kSumSlots; ++slot) sum += slots[slot][col];
  total_D[first_col + col] += sum;
}

// dweight += dy (x - mean) rstd, dbias += dy, summed over the rows.
template <typename T>
__global__ void __launch_bounds__(kSumThreads)
    norm_gradient_sums_kernel(NormGradientSums<T> sums, RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  GPU_SHARED(float, slots, [kSumSlots][kSumPacks * kPack]);
  const int slot = static_cast<int>(threadIdx.x) / kSumPacks;
  const int col = static_cast<int>(threadIdx.x) % kSumPacks * kPack;
  const int64_t first_col = int64_t{blockIdx.x} * kSumPacks * kPack;
  float weight[kPack] = {}, bias[kPack] = {};
  for (int64_t r = slot; r < sums.rows; r += kSumSlots) {
    float dy[kPack], x[kPack];
    load_floats(dy, sums.dy_ND.row(r), first_col + col, sums.cols, access);
    load_floats(x, sums.x_ND.row(r), first_col + col, sums.cols, access);
    const float mean = sums.mean_N ? sums.mean_N[r] : 0.0f, rstd = sums.rstd_N[r];
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      weight[i] += dy[i] * ((x[i] - mean) * rstd);
      bias[i] += dy[i];
    }
  }
  if (sums.dweight_D) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) slots[slot][col + i] = weight[i];
    __syncthreads();
    add_slots<kPack>(sums.dweight_D, slots, first_col, sums.cols);
    __syncthreads();
  }
  if (sums.dbias_D) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) slots[slot][col + i] = bias[i];
    __syncthreads();
    add_slots<kPack>(sums.dbias_D, slots, first_col, sums.cols);
  }
}

template <typename T>
void add_norm_gradients(const NormGradientSums<T>& sums, RowAccess access, cudaStream_t stream) {
  if (!sums.dweight_D && !sums.dbias_D) return;
  constexpr int64_t kBlockCols = kSumPacks * kPackOf<T>;
  const auto blocks = static_cast<unsigned>((sums.cols + kBlockCols - 1) / kBlockCols);
  gpu::launch(stream, {.grid = blocks, .block = kSumThreads}, norm_gradient_sums_kernel<T>, sums,
              access);
}

}  // namespace facet::cuda
