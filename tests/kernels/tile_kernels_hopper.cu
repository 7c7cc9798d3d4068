#include "tests/kernels/tile_kernels_hopper.h"

#include <type_traits>
#include <utility>

#include "kernels/gpu_hopper.h"

namespace facet::kernel_test {
namespace {

constexpr int kWidth = 64;  // elements of a row of a swizzled tile
constexpr int kWarpgroup = gpu::kWarpgroupSize;
template <int kN>
constexpr int kTilesOfColumns = (kN + kWidth - 1) / kWidth;

#if defined(__CUDACC__)
using Columns = std::integer_sequence<int, 64, 128, 256>;
#else
using Columns = std::integer_sequence<int, 8, 24, 64, 104, 128, 192, 248, 256>;
#endif
template <int... kN>
std::vector<int> values_of(std::integer_sequence<int, kN...> /*columns*/) {
  return {kN...};
}
// Calls body(integral constant n).
template <typename Body, int... kN>
void with_columns(int n, const Body& body, std::integer_sequence<int, kN...> /*columns*/) {
  (void)((n == kN && (body(std::integral_constant<int, kN>()), true)) || ...);
}

GPU_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
GPU_DEVICE int lane() { return thread() % gpu::kWarpSize; }
// The row of D that holds elements 2h and 2h + 1 of the thread's column tiles, and its column.
GPU_DEVICE int row_of(int h) { return thread() / gpu::kWarpSize * 16 + lane() / 4 + 8 * h; }
GPU_DEVICE int col_of(int n, int i) { return n * 8 + lane() % 4 * 2 + i % 2; }

template <typename T>
GPU_DEVICE void store_tile(T* tile, const T* from, int rows) {
  for (int i = thread(); i < rows * 8; i += kWarpgroup)
    gpu::store_pack(tile + gpu::swizzled_place<T>(i / 8, i % 8), gpu::load_pack(from + i * 8));
}

template <int kTiles>
GPU_DEVICE void store_result(float* result, const float (&d)[kTiles][4]) {
  for (int n = 0; n < kTiles; ++n)
    for (int i = 0; i < 4; ++i) result[row_of(i / 2) * kTiles * 8 + col_of(n, i)] = d[n][i];
}

// With kN columns of b.
template <int kN, typename T>
__global__ void wgmma_of_stored_tiles_kernel(float* result, const T* a, const T* b) {
  gpu::Tiles tiles;
  T* a_tile = tiles.take<T>(64 * kWidth);
  T* b_tile = tiles.take<T>(kN * kWidth);
  store_tile(a_tile, a, 64);
  store_tile(b_tile, b, kN);
  gpu::fence_async_proxy();
  __syncthreads();
  const uint64_t a_begin = gpu::operand_of_columns(a_tile, 0);
  float d[kN / 8][4];
  gpu::wgmma_fence(d);
#pragma unroll
  for (int k = 0; k < kWidth; k += 16) {
    const uint64_t a_columns = gpu::shifted(a_begin, k * int{sizeof(T)});
    const uint64_t b_columns = gpu::operand_of_columns(b_tile, k);
    gpu::wgmma_m64k16<T, gpu::Major::kK>(d, a_columns, b_columns, k > 0);
  }
  gpu::wgmma_commit();
  gpu::wgmma_wait<0>(d);
  store_result(result, d);
}

// Rows of both tiles are terms of the sums; b's tiles have 64 of its columns each, the last what is
// left of kN.
template <int kN, typename T>
__global__ void wgmma_of_stored_rows_kernel(float* result, const T* a, const T* b) {
  constexpr int kTile = 64 * kWidth, kTileBytes = kTile * int{sizeof(T)}, kChunks = kN / 8;
  gpu::Tiles tiles;
  T* a_tile = tiles.take<T>(kTile);
  T* b_tiles = tiles.take<T>(kTilesOfColumns<kN> * kTile);
  store_tile(a_tile, a, 64);
  for (int i = thread(); i < 64 * kChunks; i += kWarpgroup) {
    const int row = i / kChunks, chunk = i % kChunks;
    gpu::store_pack(b_tiles + chunk / 8 * kTile + gpu::swizzled_place<T>(row, chunk % 8),
                    gpu::load_pack(b + i * 8));
  }
  gpu::fence_async_proxy();
  __syncthreads();
  constexpr int kUnused = 16;
  float d[kN / 8][4];
  gpu::wgmma_fence(d);
#pragma unroll
  for (int k = 0; k < 64; k += 16)
    gpu::wgmma_m64k16<T, gpu::Major::kN, gpu::Major::kM>(
        d, gpu::operand_of_rows(a_tile, k, kUnused), gpu::operand_of_rows(b_tiles, k, kTileBytes),
        k > 0);
  gpu::wgmma_commit();
  gpu::wgmma_wait<0>(d);
  store_result(result, d);
}

template <typename T>
__global__ void wgmma_of_boxes_kernel(float* result, const T* a, const float* start,
                                      const __grid_constant__ gpu::TensorMap b) {
  constexpr int kTile = 64 * kWidth, kTileBytes = kTile * int{sizeof(T)};
  gpu::Tiles tiles;
  T* b_tiles = tiles.take<T>(2 * kTile);
  GPU_SHARED(gpu::Barrier, there, );
  if (threadIdx.x == 0) {
    gpu::init_barrier(there, 1);
    gpu::fence_barrier_init();
    gpu::arrive_expecting(there, 2 * kTileBytes);
    for (int i = 0; i < 2; ++i) gpu::load_box(b_tiles + i * kTile, b, there, i * kWidth, 0);
  }
  float d[16][4];
  for (int n = 0; n < 16; ++n)
    for (int i = 0; i < 4; ++i) d[n][i] = start[row_of(i / 2) * 128 + col_of(n, i)];
  uint32_t fragments[4][4];
  for (int k = 0; k < 4; ++k)
    for (int i = 0; i < 4; ++i)
      fragments[k][i] =
          gpu::load_pair(a + row_of(i % 2) * kWidth + k * 16 + i / 2 * 8 + lane() % 4 * 2);
  __syncthreads();
  gpu::wait_barrier(there, 0);
  gpu::wgmma_fence(d, fragments);
#pragma unroll
  for (int k = 0; k < 4; ++k)
    gpu::wgmma_m64k16<T, gpu::Major::kN>(d, fragments[k],
                                         gpu::operand_of_rows(b_tiles, k * 16, kTileBytes), true);
  gpu::wgmma_commit();
  gpu::wgmma_wait<0>(d, fragments);
  store_result(result, d);
}

constexpr int kStages = 2, kBoxRows = 32;

template <typename T>
__global__ void __launch_bounds__(2 * kWarpgroup, 1)
    copy_boxes_kernel(T* y, const __grid_constant__ gpu::TensorMap x, int boxes) {
  constexpr int kBox = kBoxRows * kWidth;
  gpu::Tiles tiles;
  T* ring = tiles.take<T>(kStages * kBox);
  GPU_SHARED(gpu::Barrier, full, [kStages]);
  GPU_SHARED(gpu::Barrier, empty, [kStages]);
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      gpu::init_barrier(full[s], 1);
      gpu::init_barrier(empty[s], kWarpgroup);
    }
    gpu::fence_barrier_init();
  }
  __syncthreads();
  if (thread() >= kWarpgroup) {
    gpu::lower_registers<24>();
    if (thread() > kWarpgroup) return;
    for (int i = 0; i < boxes; ++i) {
      const int s = i % kStages;
      gpu::wait_barrier(empty[s], static_cast<unsigned>(i / kStages % 2 ^ 1));
      gpu::arrive_expecting(full[s], kBox * sizeof(T));
      gpu::load_box(ring + s * kBox, x, full[s], 0, i * kBoxRows);
    }
    return;
  }
  gpu::raise_registers<248>();
  for (int i = 0; i < boxes; ++i) {
    const int s = i % kStages;
    gpu::wait_barrier(full[s], static_cast<unsigned>(i / kStages % 2));
    for (int c = thread(); c < kBoxRows * 8; c += kWarpgroup)
      gpu::store_pack(y + i * kBox + c * 8,
                      gpu::load_pack(ring + s * kBox + gpu::swizzled_place<T>(c / 8, c % 8)));
    gpu::arrive(empty[s]);
  }
}

template <typename T>
T* as(uint16_t* x) {
  return reinterpret_cast<T*>(x);
}
template <typename T>
const T* as(const uint16_t* x) {
  return reinterpret_cast<const T*>(x);
}

template <typename T>
void multiply_stored_tiles(float* d, const uint16_t* a, const uint16_t* b, int n,
                           cudaStream_t stream) {
  const auto multiply = [&](auto columns) {
    constexpr int kN = columns();
    gpu::launch(stream,
                {.grid = 1, .block = kWarpgroup, .shared_bytes = (64 + kN) * kWidth * sizeof(T)},
                wgmma_of_stored_tiles_kernel<kN, T>, d, as<T>(a), as<T>(b));
  };
  with_columns(n, multiply, Columns());
}
template <typename T>
void multiply_stored_rows(float* d, const uint16_t* a, const uint16_t* b, int n,
                          cudaStream_t stream) {
  const auto multiply = [&](auto columns) {
    constexpr int kN = columns();
    gpu::launch(stream,
                {.grid = 1,
                 .block = kWarpgroup,
                 .shared_bytes = (1 + kTilesOfColumns<kN>)*64 * kWidth * sizeof(T)},
                wgmma_of_stored_rows_kernel<kN, T>, d, as<T>(a), as<T>(b));
  };
  with_columns(n, multiply, Columns());
}
template <typename T>
void multiply_boxes(float* d, const uint16_t* a, const uint16_t* b, const float* start,
                    cudaStream_t stream) {
  const gpu::TensorMap map = gpu::make_tensor_map(as<T>(b), 64, 128, 128, 64, kWidth);
  gpu::launch(stream, {.grid = 1, .block = kWarpgroup, .shared_bytes = 2 * 64 * kWidth * sizeof(T)},
              wgmma_of_boxes_kernel<T>, d, as<T>(a), start, map);
}

template <typename T>
GPU_DEVICE void copy_packs(T* to, const T* from, int count) {
  for (int i = thread() * 8; i < count; i += kWarpgroup * 8)
    gpu::store_pack(to + i, gpu::load_pack(from + i));
}

constexpr int kBlocks = 2, kShareRows = 8, kShare = kShareRows * kWidth, kShares = kBlocks * kShare;

// A stage of the ring is a share of each block.
template <typename T>
__global__ void copy_boxes_by_cluster_kernel(T* y, const __grid_constant__ gpu::TensorMap map,
                                             int steps) {
  gpu::Tiles tiles;
  T* stages = tiles.take<T>(kStages * kShares);
  GPU_SHARED(gpu::Barrier, full, [kStages]);
  GPU_SHARED(gpu::Barrier, empty, [kStages]);
  if (thread() == 0) {
    for (int s = 0; s < kStages; ++s) {
      gpu::init_barrier(full[s], 1);
      gpu::init_barrier(empty[s], kBlocks * kWarpgroup / gpu::kWarpSize);
    }
    gpu::fence_barrier_init();
  }
  gpu::sync_cluster();
  const int block = static_cast<int>(gpu::block_in_cluster());
  const auto parity = [](int i) { return static_cast<unsigned>(i / kStages & 1); };
  if (thread() == kWarpgroup) {
    for (int i = 0; i < steps; ++i) {
      T* const share = stages + i % kStages * kShares + block * kShare;
      gpu::wait_barrier(empty[i % kStages], parity(i) ^ 1);
      gpu::arrive_expecting(full[i % kStages], kShares * sizeof(T));
      gpu::load_box_to_cluster(share, map, full[i % kStages], 0, (i * kBlocks + block) * kShareRows,
                               3);
    }
    for (int i = steps; i < steps + kStages; ++i)
      gpu::wait_barrier(empty[i % kStages], parity(i) ^ 1);
  }
  for (int i = 0; thread() < kWarpgroup && i < steps; ++i) {
    const T* const stage = stages + i % kStages * kShares;
    gpu::wait_barrier(full[i % kStages], parity(i));
    const auto pack = gpu::load_pack(stage + gpu::swizzled_place<T>(thread() / 8, thread() % 8));
    gpu::store_pack(y + (block * steps + i) * kShares + thread() * 8, pack);
    __syncwarp();
    if (lane() > 0) continue;
    gpu::arrive(empty[i % kStages]);
    gpu::arrive_in_cluster(empty[i % kStages], static_cast<unsigned>(block ^ 1));
  }
  gpu::sync_cluster();
  if (thread() < kWarpgroup)
    copy_packs(y + (kBlocks + block) * steps * kShares, y + (block ^ 1) * steps * kShares,
               steps * kShares);
}

}  // namespace

std::vector<int> wgmma_columns() { return values_of(Columns()); }
void wgmma_of_stored_tiles(float* d, const uint16_t* a, const uint16_t* b, int n, HalfType type,
                           cudaStream_t stream) {
  type == HalfType::kBF16 ? multiply_stored_tiles<gpu::bf16>(d, a, b, n, stream)
                          : multiply_stored_tiles<gpu::f16>(d, a, b, n, stream);
}
void wgmma_of_stored_rows(float* d, const uint16_t* a, const uint16_t* b, int n, HalfType type,
                          cudaStream_t stream) {
  type == HalfType::kBF16 ? multiply_stored_rows<gpu::bf16>(d, a, b, n, stream)
                          : multiply_stored_rows<gpu::f16>(d, a, b, n, stream);
}
void wgmma_of_boxes(float* d, const uint16_t* a, const uint16_t* b, const float* start,
                    HalfType type, cudaStream_t stream) {
  type == HalfType::kBF16 ? multiply_boxes<gpu::bf16>(d, a, b, start, stream)
                          : multiply_boxes<gpu::f16>(d, a, b, start, stream);
}
void copy_boxes_through_ring(uint16_t* y, const uint16_t* x, int64_t rows, cudaStream_t stream) {
  using T = gpu::bf16;
  const gpu::TensorMap map = gpu::make_tensor_map(as<T>(x), rows, kWidth, kWidth, kBoxRows, kWidth);
  const int boxes = static_cast<int>((rows + kBoxRows - 1) / kBoxRows);
  gpu::launch(
      stream,
      {.grid = 1, .block = 2 * kWarpgroup, .shared_bytes = kStages * kBoxRows * kWidth * sizeof(T)},
      copy_boxes_kernel<T>, as<T>(y), map, boxes);
}
void copy_boxes_by_cluster(uint16_t* y, const uint16_t* x, int64_t rows, cudaStream_t stream) {
  using T = gpu::bf16;
  const gpu::TensorMap map =
      gpu::make_tensor_map(as<T>(x), rows, kWidth, kWidth, kShareRows, kWidth);
  constexpr int64_t kRows = kBlocks * kShareRows;
  gpu::launch(stream,
              {.grid = kBlocks,
               .block = 2 * kWarpgroup,
               .shared_bytes = kStages * kShares * sizeof(T),
               .cluster = kBlocks},
              copy_boxes_by_cluster_kernel<T>, as<T>(y), map,
              static_cast<int>((rows + kRows - 1) / kRows));
}

}  // namespace facet::kernel_test
