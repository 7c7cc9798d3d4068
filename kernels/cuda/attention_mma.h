// Shared by the tensor-core attention kernels. A block of four warps keeps a tile of 64 rows, 16
// per warp, and streams tiles of the other side through two stages of shared memory: the next tile
// is copied while the current one is multiplied.
//
// Fragments of mma.m16n8k16, with lane = 4 g + t: A (16,16) holds rows g and g + 8, columns 2t,
// 2t+1 and those + 8; B (16,8) holds column g, rows 2t, 2t+1 and those + 8; C (16,8) holds rows g
// and g + 8, columns 2t, 2t+1. So two neighbouring C fragments form an A fragment.
#pragma once

#include "kernels/cuda/attention_lists.h"

namespace facet::cuda::mma {

constexpr int kThreads = 128;
constexpr int kWarpRows = 16;
static_assert(kThreads / gpu::kWarpSize * kWarpRows == kTileRows);
constexpr int kStageRows = 32;  // of the other side, per stage

// Resident blocks per sm_80 multiprocessor, which bounds the registers per thread.
template <int kWidth>
constexpr int kBlocks = kWidth == 64 ? 3 : 2;

// Row stride of shared tiles: padded by 16 bytes, so that the eight rows of an ldmatrix are in
// different banks.
template <int kWidth>
constexpr int kStride = kWidth + 8;

GPU_DEVICE int lane_of_thread() { return static_cast<int>(threadIdx.x) % gpu::kWarpSize; }
GPU_DEVICE int warp_of_thread() { return static_cast<int>(threadIdx.x) / gpu::kWarpSize; }

// The row of the tile that holds the thread's C elements 2h and 2h + 1.
GPU_DEVICE int row_of_half(int h) {
  return warp_of_thread() * kWarpRows + lane_of_thread() / 4 + 8 * h;
}
// The column of C element i of column tile n.
GPU_DEVICE int column_of(int n, int i) { return n * 8 + lane_of_thread() % 4 * 2 + i % 2; }

// Starts copying kRows rows of one head, from_D + at of row index[r], to a shared tile; rows from
// `count` on become 0.
template <int kWidth, int kRows, typename T>
GPU_DEVICE void fetch_rows(T* tile, const Rows<const T>& from_D, int64_t at, const int32_t* index,
                           int count) {
  constexpr int kPack = gpu::Pack<T>::kSize, kPacks = kWidth / kPack;
#pragma unroll 2
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kPacks; i += kThreads) {
    const int r = i / kPacks, c = i % kPacks * kPack;
    const bool present = r < count;
    gpu::cp_async_16(tile + r * kStride<kWidth> + c, from_D.row(index[present ? r : 0]) + at + c,
                     present ? 16 : 0);
  }
}

// Loads A (16,16) from a row-major tile, given its first element.
template <int kWidth, typename T>
GPU_DEVICE void load_a(uint32_t (&a)[4], const T* tile) {
  const int lane = lane_of_thread();
  gpu::ldmatrix_x4(a, tile + lane % 16 * kStride<kWidth> + lane / 16 * 8);
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

// c (16, kColumns) += a b', with the warp's 16 rows a and kColumns rows b of kWidth values.
template <int kWidth, int kColumns, typename T>
GPU_DEVICE void add_products(float (&c)[kColumns / 8][4], const T* a_rows, const T* b_rows) {
#pragma unroll
  for (int k = 0; k < kWidth; k += 16) {
    uint32_t a[4];
    load_a<kWidth>(a, a_rows + k);
#pragma unroll
    for (int n = 0; n < kColumns; n += 16) {
      const TwoB two = load_b_of_columns<kWidth>(b_rows + n * kStride<kWidth> + k);
      gpu::mma_m16n8k16<T>(c[n / 8], a, two.b[0], c[n / 8]);
      gpu::mma_m16n8k16<T>(c[n / 8 + 1], a, two.b[1], c[n / 8 + 1]);
    }
  }
}

// sum (16, kWidth) += weights (16, kK), rounded to T, times kK rows.
template <int kWidth, int kK, typename T>
GPU_DEVICE void add_weighted(float (&sum)[kWidth / 8][4], const float (&weights)[kK / 8][4],
                             const T* rows) {
#pragma unroll
  for (int k = 0; k < kK; k += 16) {
    const auto& low = weights[k / 8];
    const auto& high = weights[k / 8 + 1];
    const uint32_t a[4] = {gpu::pair_of<T>(low[0], low[1]), gpu::pair_of<T>(low[2], low[3]),
                           gpu::pair_of<T>(high[0], high[1]), gpu::pair_of<T>(high[2], high[3])};
#pragma unroll
    for (int n = 0; n < kWidth; n += 16) {
      const TwoB two = load_b_of_rows<kWidth>(rows + k * kStride<kWidth> + n);
      gpu::mma_m16n8k16<T>(sum[n / 8], a, two.b[0], sum[n / 8]);
      gpu::mma_m16n8k16<T>(sum[n / 8 + 1], a, two.b[1], sum[n / 8 + 1]);
    }
  }
}

template <int kTiles>
GPU_DEVICE void clear(float (&c)[kTiles][4]) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) c[n][i] = 0;
}

// Rounds and stores the thread's elements of half h of a C into one row of E values.
template <int kWidth, typename T>
GPU_DEVICE void store_row(T* row_E, const float (&c)[kWidth / 8][4], int h) {
#pragma unroll
  for (int n = 0; n < kWidth / 8; ++n)
    gpu::store_pair(row_E + column_of(n, 0), gpu::pair_of<T>(c[n][2 * h], c[n][2 * h + 1]));
}

// Calls body(stage, first) for every step of the other side's `count` rows, after fetch(stage,
// first) has copied them into the stage and all threads can read them; a stage is overwritten only
// when all threads are done with it.
template <int kStep, typename Fetch, typename Body>
GPU_DEVICE void for_stages(int count, const Fetch& fetch, const Body& body) {
  fetch(0, 0);
  gpu::cp_async_commit();
  for (int first = 0, stage = 0; first < count; first += kStep, stage ^= 1) {
    if (first + kStep < count) {
      fetch(stage ^ 1, first + kStep);
      gpu::cp_async_commit();
      gpu::cp_async_wait<1>();
    } else {
      gpu::cp_async_wait<0>();
    }
    __syncthreads();
    body(stage, first);
    __syncthreads();
  }
}

// Shared memory of a block: tiles of its own rows, and two stages of two tiles of the other side.
template <int kWidth, int kOwnTiles, int kStep, typename T>
class SharedTiles {
 public:
  GPU_DEVICE explicit SharedTiles(gpu::SharedArrays& arrays)
      : own_(arrays.take<T>(kOwnTiles * kOwnSize)),
        first_(arrays.take<T>(2 * kStageSize)),
        second_(arrays.take<T>(2 * kStageSize)) {}
  GPU_DEVICE T* own(int tile) const { return own_ + tile * kOwnSize; }
  // The warp's 16 rows of a tile of the block.
  GPU_DEVICE const T* rows_of_warp(int tile) const {
    return own(tile) + warp_of_thread() * kWarpRows * kStride<kWidth>;
  }
  GPU_DEVICE T* first(int stage) const { return first_ + stage * kStageSize; }
  GPU_DEVICE T* second(int stage) const { return second_ + stage * kStageSize; }
  static constexpr size_t bytes() {
    return static_cast<size_t>(kOwnTiles * kOwnSize + 4 * kStageSize) * sizeof(T);
  }

 private:
  static constexpr int kOwnSize = kTileRows * kStride<kWidth>;
  static constexpr int kStageSize = kStep * kStride<kWidth>;
  T *own_, *first_, *second_;
};

// The thread's two rows of the tile, -1 for absent ones. Looked up where needed: keeping them and
// their addresses through the loops costs registers and makes the kernels spill.
struct TwoRows {
  int row[2];

  GPU_DEVICE TwoRows(const int32_t* rows, int count) {
#pragma unroll
    for (int h = 0; h < 2; ++h) row[h] = row_of_half(h) < count ? rows[row_of_half(h)] : -1;
  }
};

// c += the thread's elements of one row of E values, as half h of a C.
template <int kWidth, typename T>
GPU_DEVICE void add_row(float (&c)[kWidth / 8][4], int h, const T* row_E) {
#pragma unroll
  for (int n = 0; n < kWidth / 8; ++n) {
    const uint32_t pair = gpu::load_pair(row_E + column_of(n, 0));
    T two[2];
    memcpy(static_cast<void*>(two), &pair, sizeof pair);
    c[n][2 * h] += gpu::to_float(two[0]);
    c[n][2 * h + 1] += gpu::to_float(two[1]);
  }
}

template <int kTiles>
GPU_DEVICE void multiply(float (&c)[kTiles][4], float factor) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) c[n][i] *= factor;
}

template <size_t kIndex>
using TensorCoreWidth = std::integral_constant<int, kTensorCoreWidths[kIndex]>;

// Calls body(integral constant of the head width) and returns true if the tensor-core kernels
// support the call, else returns false.
template <typename Body>
bool with_width(int width, RowAccess access, const Body& body) {
  if (access != RowAccess::kPacked) return false;
  switch (width) {
    case kTensorCoreWidths[0]: body(TensorCoreWidth<0>()); return true;
    case kTensorCoreWidths[1]: body(TensorCoreWidth<1>()); return true;
    case kTensorCoreWidths[2]: body(TensorCoreWidth<2>()); return true;
    default: return false;
  }
}

}  // namespace facet::cuda::mma
