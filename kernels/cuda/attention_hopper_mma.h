// Shared by the attention kernels for Hopper. The consumers (hopper_ring.h) multiply 64 rows of the
// block's tile each, and the other side comes through the rings.
//
// A tile in shared memory is two panels: its rows' 64 columns of half a head, with the 128-byte
// swizzle.
#pragma once

#include "kernels/cuda/attention_hopper.h"
#include "kernels/cuda/attention_mma.h"
#include "kernels/cuda/hopper_ring.h"

namespace facet::cuda::hopper {

using mma::BlockPlace;

static_assert(kConsumers * kConsumerRows == kTileRows);

constexpr int kPanelColumns = 64, kPanels = kHeadWidth / kPanelColumns;
template <int kRows>
constexpr int kPanelSize = kRows* kPanelColumns;  // elements
template <int kRows>
constexpr int kTileSize = kPanels* kPanelSize<kRows>;
template <int kRows, typename T>
constexpr unsigned kTileBytes = kTileSize<kRows> * sizeof(T);

// What a thread of a consumer holds of 64 rows and kColumns columns.
template <int kColumns>
using Accumulators = float[kColumns / 8][4];
template <int kColumns>
using Weights = uint32_t[kColumns / 16][4];  // rounded, as wgmma reads them

GPU_DEVICE int thread_of_consumer() {
  return static_cast<int>(threadIdx.x % unsigned{gpu::kWarpgroupSize});
}
// The row of the tile that holds half h of the thread's elements.
GPU_DEVICE int row_of(int h) {
  return consumer_of_thread() * kConsumerRows + thread_of_consumer() / gpu::kWarpSize * 16 +
         lane_of_thread() / 4 + 8 * h;
}
// The consumer's rows of a tile. (Descriptors of what one lane says are not kept by every thread.)
template <typename T>
GPU_DEVICE const T* rows_of_consumer(const T* tile) {
  const int consumer = __shfl_sync(gpu::kFullWarp, consumer_of_thread(), 0);
  return tile + consumer * kConsumerRows * kPanelColumns;
}

// How many keys of a range each of the thread's query rows sees, and the most that a row of the
// consumer does.
struct RowBounds {
  int of_half[2], most;

  GPU_DEVICE explicit RowBounds(const int32_t* bounds) {
    const int32_t* mine = bounds + consumer_of_thread() * kConsumerRows + lane_of_thread();
    most = __reduce_max_sync(gpu::kFullWarp, max(mine[0], mine[gpu::kWarpSize]));
    of_half[0] = bounds[row_of(0)];
    of_half[1] = bounds[row_of(1)];
  }
};

// Boxes of kRows rows of half a head.
template <int kRows, typename T>
gpu::TensorMap map_of(const Rows<const T>& x, int64_t rows, int64_t heads) {
  return gpu::make_tensor_map(x.data, rows, heads * kHeadWidth, x.stride, kRows, kPanelColumns);
}

// Fetches kRows rows of a head from `row` on; its bytes count at the barrier.
template <int kRows, typename T>
GPU_DEVICE void fetch_tile(T* tile, const gpu::TensorMap& map, gpu::Barrier& there, int column,
                           int row) {
#pragma unroll
  for (int p = 0; p < kPanels; ++p)
    gpu::load_box(tile + p * kPanelSize<kRows>, map, there, column + p * kPanelColumns, row);
}

// ---- products, under way until wgmma_wait

// products (64,kRows) = a b', with the consumer's rows of a tile of 128, and all of one of kRows.
template <int kRows, typename T>
GPU_DEVICE void start_products(Accumulators<kRows>& products, const T* a_tile, const T* b_tile) {
  constexpr int kElement = sizeof(T);
  const uint64_t a_begin = gpu::operand_of_columns(rows_of_consumer(a_tile), 0);
  const uint64_t b_begin = gpu::operand_of_columns(b_tile, 0);
  gpu::wgmma_fence(products);
#pragma unroll
  for (int k = 0; k < kHeadWidth; k += 16) {
    const int panel = k / kPanelColumns, column = k % kPanelColumns;
    const uint64_t a = gpu::shifted(a_begin, (panel * kPanelSize<kTileRows> + column) * kElement);
    const uint64_t b = gpu::shifted(b_begin, (panel * kPanelSize<kRows> + column) * kElement);
    gpu::wgmma_m64k16<T, gpu::Major::kK>(products, a, b, k > 0);
  }
  gpu::wgmma_commit();
}

// sums (64,128) += weights (64,kRows) times a tile of kRows rows, of which [kFirst, kEnd) take
// part.
template <int kRows, int kFirst = 0, int kEnd = kRows, typename T>
GPU_DEVICE void start_adding(Accumulators<kHeadWidth>& sums, Weights<kRows>& weights,
                             const T* tile) {
  constexpr int kElement = sizeof(T);
  const uint64_t rows = gpu::operand_of_rows(tile, 0, kPanelSize<kRows> * kElement);
  gpu::wgmma_fence(sums, weights);
#pragma unroll
  for (int k = kFirst / 16; k < kEnd / 16; ++k)
    gpu::wgmma_m64k16<T, gpu::Major::kN>(
        sums, weights[k], gpu::shifted(rows, k * 16 * kPanelColumns * kElement), true);
  gpu::wgmma_commit();
}

template <typename T, int kRows>
GPU_DEVICE void round_weights(Weights<kRows>& weights, const Accumulators<kRows>& values) {
#pragma unroll
  for (int k = 0; k < kRows / 16; ++k)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const auto& c = values[2 * k + i / 2];
      weights[k][i] = gpu::pair_of<T>(c[i % 2 * 2], c[i % 2 * 2 + 1]);
    }
}

template <int kTiles>
GPU_DEVICE void clear(float (&c)[kTiles][4]) {
  mma::clear_row(c, 0);
  mma::clear_row(c, 1);
}

}  // namespace facet::cuda::hopper
