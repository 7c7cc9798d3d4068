// LoRA's products on tensor cores; lora.cu has the formulas. Up to rank 64 each reads its wide
// matrix once (or reads and writes it), and is bound by that. So the tiles are chosen for many
// bytes in flight, and padding a rank to 16, 32 or 64 costs nothing. Beyond rank 64 the narrow
// products and the gradients read the wide matrix once for every 64.
//
// du is stored as two 16-bit numbers an element, in two halves of each row, whose products are
// added. In bf16 that keeps 16 bits. In fp16 it keeps 22 bits from 1/4 on; below, the second number
// is subnormal or zero, so that the absolute error stays under 2^-25, small elements have fewer
// bits and those under 2^-25 none: the loss scale keeps gradients above that. Beyond 65504 the sum
// is NaN, which is treated like an infinity: the loss scale is too large.
#pragma once

#include "kernels/cuda/fragments.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda::lora {

using mma::kStride, mma::TwoB, mma::lane_of_thread;

constexpr int kThreads = 128, kWarps = kThreads / gpu::kWarpSize;
constexpr int kWarpRows = 16;
// The limit of shared memory per block on compute capabilities 8.6, 8.9 and 12.
constexpr size_t kMostSharedBytes = size_t{99} << 10;

GPU_DEVICE int warp_of_thread() { return static_cast<int>(threadIdx.x) / gpu::kWarpSize; }
// The row of the tile that holds the thread's C elements 2h and 2h + 1.
GPU_DEVICE int row_of_half(int h) {
  return warp_of_thread() * kWarpRows + lane_of_thread() / 4 + 8 * h;
}
// The column of C element i of column tile n.
GPU_DEVICE int column_of(int n, int i) { return n * 8 + lane_of_thread() % 4 * 2 + i % 2; }

template <int kTiles>
GPU_DEVICE void clear(float (&c)[kTiles][4]) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) c[n][i] = 0;
}

// Calls body(stage, first) for every step of the other side's `count` rows, after fetch(stage,
// first) has copied them into the stage and all threads can read them; kStages - 1 of them are in
// flight, and a stage is overwritten only when all threads are done with it. So is the memory of
// the stages after the call.
template <int kStep, int kStages, typename Fetch, typename Body>
GPU_DEVICE void for_stages(int count, const Fetch& fetch, const Body& body) {
  const auto begin = [&](int step) {
    if (step * kStep < count) fetch(step % kStages, step * kStep);
    gpu::cp_async_commit();
  };
  for (int step = 0; step < kStages - 1; ++step) begin(step);
  for (int step = 0; step * kStep < count; ++step) {
    gpu::cp_async_wait<kStages - 2>();
    __syncthreads();  // the step is there, and all threads are done with the one before
    begin(step + kStages - 1);
    body(step % kStages, step * kStep);
  }
  gpu::cp_async_wait<0>();
  __syncthreads();
}

// ---- matrices

// The first element of a block of a matrix, and the matrix's size.
struct Corner {
  int64_t row, col;
};
struct Extent {
  int64_t rows, cols;
};

// Starts copying kRows x kCols elements to a shared tile, with zeros outside the matrix, whose
// number of columns is a multiple of a pack.
template <int kRows, int kCols, typename T>
GPU_DEVICE void fetch(T* tile, const Rows<const T>& from, Corner at, Extent size) {
  constexpr int kPack = gpu::Pack<T>::kSize, kPacks = kCols / kPack;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kPacks; i += kThreads) {
    const int r = i / kPacks, c = i % kPacks * kPack;
    const bool present = at.row + r < size.rows && at.col + c < size.cols;
    const T* source = present ? from.row(at.row + r) + at.col + c : from.data;
    gpu::cp_async_16(tile + r * kStride<kCols> + c, source, present ? 16 : 0);
  }
}

// How a factor between wide and narrow matrices is stored: right (I,r), whose narrow matrix in
// backward is du, or left (r,O), with u.
enum class Factor : uint8_t { kWideByRank, kRankByWide };

// Halves of a row of the narrow matrix that is multiplied by this factor: the two numbers of du.
template <Factor kFactor>
constexpr int kHalves = kFactor == Factor::kWideByRank ? 2 : 1;

// kRows rows of every half of a narrow matrix, a tile each.
template <int kRows, int kRank, Factor kFactor, typename T>
GPU_DEVICE void fetch_narrow(T* tiles, const Rows<const T>& narrow_Nr, Corner at, Extent size) {
#pragma unroll
  for (int half = 0; half < kHalves<kFactor>; ++half)
    fetch<kRows, kRank>(tiles + half * kRows * kStride<kRank>,
                        Rows<const T>{narrow_Nr.data + half * size.cols, narrow_Nr.stride}, at,
                        size);
}

// A factor's tile: (kWide, kRank), or (kRank, kWide) if it is stored so.
template <int kWide, int kRank, Factor kFactor>
constexpr int kFactorTile =
    kFactor == Factor::kWideByRank ? kWide* kStride<kRank> : kRank* kStride<kWide>;
template <int kWide, int kRank, Factor kFactor, typename T>
GPU_DEVICE void fetch_factor(T* tile, const Rows<const T>& factor, int first_wide, int width,
                             int first_rank, int rank) {
  if constexpr (kFactor == Factor::kWideByRank)
    fetch<kWide, kRank>(tile, factor, {first_wide, first_rank}, {width, rank});
  else
    fetch<kRank, kWide>(tile, factor, {first_rank, first_wide}, {rank, width});
}

// B (16,16) of a tile at depth k and column n of the product.
template <int kCols, bool kDepthIsRow, typename T>
GPU_DEVICE TwoB load_b(const T* tile, int k, int n) {
  if constexpr (kDepthIsRow)
    return mma::load_b_of_rows<kCols>(tile + k * kStride<kCols> + n);
  else
    return mma::load_b_of_columns<kCols>(tile + n * kStride<kCols> + k);
}

template <typename T>
GPU_DEVICE void multiply_add(float (&low)[4], float (&high)[4], const uint32_t (&a)[4],
                             const TwoB& two) {
  gpu::mma_m16n8k16<T>(low, a, two.b[0], low);
  gpu::mma_m16n8k16<T>(high, a, two.b[1], high);
}

// ---- narrow: out (N,r) = alpha wide (N,W) factor

constexpr int kNarrowRows = kWarps * kWarpRows, kNarrowDepth = 64, kNarrowStages = 4;

template <int kRank, Factor kFactor, typename T>
constexpr size_t kNarrowBytes = kNarrowStages*(kNarrowRows* kStride<kNarrowDepth> +
                                               kFactorTile<kNarrowDepth, kRank, kFactor>)*sizeof(T);

// Stores two neighbouring numbers: rounded, or du's (by left) as two each.
template <Factor kFactor, typename T>
GPU_DEVICE void store_narrow(T* to, int rank, float first, float second) {
  const T upper[2] = {gpu::from_float<T>(first), gpu::from_float<T>(second)};
  gpu::store_pair(to, gpu::pair_of<T>(first, second));
  if constexpr (kFactor == Factor::kRankByWide)
    gpu::store_pair(to + rank, gpu::pair_of<T>(first - gpu::to_float(upper[0]),
                                               second - gpu::to_float(upper[1])));
}

// One block per 64 rows and up to kRank columns.
template <int kRank, Factor kFactor, typename T>
__global__ void __launch_bounds__(kThreads)
    narrow_kernel(Rows<T> out_Nr, Rows<const T> wide_NW, Rows<const T> factor, int64_t rows,
                  int width, int rank, float alpha) {
  constexpr bool kByWide = kFactor == Factor::kWideByRank;
  constexpr int kWideTile = kNarrowRows * kStride<kNarrowDepth>;
  constexpr int kTile = kFactorTile<kNarrowDepth, kRank, kFactor>;
  static_assert(kNarrowBytes<kRank, kFactor, T> <= kMostSharedBytes);
  gpu::SharedArrays arrays;
  T* wide_tiles = arrays.take<T>(kNarrowStages * kWideTile);
  T* factor_tiles = arrays.take<T>(kNarrowStages * kTile);
  const int64_t first_row = int64_t{blockIdx.x} * kNarrowRows;
  const int first_rank = static_cast<int>(blockIdx.y) * kRank;
  float sum[kRank / 8][4];
  clear(sum);
  for_stages<kNarrowDepth, kNarrowStages>(
      width,
      [&](int stage, int w) {
        fetch<kNarrowRows, kNarrowDepth>(wide_tiles + stage * kWideTile, wide_NW, {first_row, w},
                                         {rows, width});
        fetch_factor<kNarrowDepth, kRank, kFactor>(factor_tiles + stage * kTile, factor, w, width,
                                                   first_rank, rank);
      },
      [&](int stage, int) {
        const T* rows_of_warp =
            wide_tiles + stage * kWideTile + warp_of_thread() * kWarpRows * kStride<kNarrowDepth>;
        const T* tile = factor_tiles + stage * kTile;
#pragma unroll
        for (int k = 0; k < kNarrowDepth; k += 16) {
          uint32_t a[4];
          mma::load_a<kNarrowDepth>(a, rows_of_warp + k);
#pragma unroll
          for (int n = 0; n < kRank; n += 16)
            multiply_add<T>(sum[n / 8], sum[n / 8 + 1], a, load_b < kByWide ? kRank : kNarrowDepth,
                            kByWide > (tile, k, n));
        }
      });
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int64_t row = first_row + row_of_half(h);
    if (row >= rows) continue;
#pragma unroll
    for (int n = 0; n < kRank / 8; ++n) {
      const int col = first_rank + column_of(n, 0);
      if (col < rank)
        store_narrow<kFactor>(out_Nr.row(row) + col, rank, alpha * sum[n][2 * h],
                              alpha * sum[n][2 * h + 1]);
    }
  }
}

// ---- expand: out (N,W) += alpha narrow (N,r) factor

constexpr int kExpandRows = kWarps * kWarpRows, kExpandCols = 128;
constexpr int kSumStride = kExpandCols + 4;  // 16-byte rows in different banks

template <int kRank, Factor kFactor, typename T>
constexpr size_t kExpandTileBytes = (kHalves<kFactor> * kExpandRows * kStride<kRank> +
                                     kFactorTile<kExpandCols, kRank, kFactor>)*sizeof(T);
// The sums reuse the memory of the tiles.
template <int kRank, Factor kFactor, typename T>
constexpr size_t kExpandBytes = kExpandTileBytes<kRank, kFactor, T> >
                                        kExpandRows* kSumStride * sizeof(float)
                                    ? kExpandTileBytes<kRank, kFactor, T>
                                    : kExpandRows* kSumStride * sizeof(float);

// Adds the block's sums, which lie in shared memory, to out in packs. A thread loads all of its
// packs before it stores one, so that they are in flight together.
template <typename T>
GPU_DEVICE void add_sums(const Rows<T>& out_NW, const float* sums, Corner at, Extent size) {
  constexpr int kPack = gpu::Pack<T>::kSize, kPacksOfRow = kExpandCols / kPack;
  constexpr int kPacks = kExpandRows * kPacksOfRow / kThreads, kRowStep = kThreads / kPacksOfRow;
  const int first = static_cast<int>(threadIdx.x) / kPacksOfRow;
  const int c = static_cast<int>(threadIdx.x) % kPacksOfRow * kPack;
  if (at.col + c >= size.cols) return;
  gpu::Pack<T> packs[kPacks];
#pragma unroll
  for (int i = 0; i < kPacks; ++i) {
    const int64_t row = at.row + first + i * kRowStep;
    if (row < size.rows) packs[i] = gpu::load_pack(out_NW.row(row) + at.col + c);
  }
#pragma unroll
  for (int i = 0; i < kPacks; ++i) {
    const int r = first + i * kRowStep;
    if (at.row + r >= size.rows) return;
    float sum[kPack];
    load_floats(sum, sums + r * kSumStride, c, kExpandCols, RowAccess::kPacked);
#pragma unroll
    for (int j = 0; j < kPack; ++j) sum[j] += gpu::to_float(packs[i].v[j]);
    store_floats(out_NW.row(at.row + r), sum, at.col + c, size.cols, RowAccess::kPacked);
  }
}

template <int kRank, Factor kFactor, typename T>
__global__ void __launch_bounds__(kThreads)
    expand_kernel(Rows<T> out_NW, Rows<const T> narrow_Nr, Rows<const T> factor, int64_t rows,
                  int width, int rank, float alpha) {
  constexpr bool kByRank = kFactor == Factor::kRankByWide;
  constexpr int kNarrowTile = kExpandRows * kStride<kRank>;
  static_assert(kExpandBytes<kRank, kFactor, T> <= kMostSharedBytes);
  gpu::SharedArrays arrays;
  T* narrow_tiles = arrays.take<T>(kExpandBytes<kRank, kFactor, T> / sizeof(T));
  T* factor_tile = narrow_tiles + kHalves<kFactor> * kNarrowTile;
  const int64_t first_row = int64_t{blockIdx.x} * kExpandRows;
  const int first_col = static_cast<int>(blockIdx.y) * kExpandCols;
  float sum[kExpandCols / 8][4];
  clear(sum);
  for (int first_rank = 0; first_rank < rank; first_rank += kRank) {
    fetch_narrow<kExpandRows, kRank, kFactor>(narrow_tiles, narrow_Nr, {first_row, first_rank},
                                              {rows, rank});
    fetch_factor<kExpandCols, kRank, kFactor>(factor_tile, factor, first_col, width, first_rank,
                                              rank);
    gpu::cp_async_commit();
    gpu::cp_async_wait<0>();
    __syncthreads();
    const T* rows_of_warp = narrow_tiles + warp_of_thread() * kWarpRows * kStride<kRank>;
#pragma unroll
    for (int k = 0; k < kRank; k += 16) {
#pragma unroll
      for (int half = 0; half < kHalves<kFactor>; ++half) {
        uint32_t a[4];
        mma::load_a<kRank>(a, rows_of_warp + half * kNarrowTile + k);
#pragma unroll
        for (int n = 0; n < kExpandCols; n += 16)
          multiply_add<T>(sum[n / 8], sum[n / 8 + 1], a, load_b < kByRank ? kExpandCols : kRank,
                          kByRank > (factor_tile, k, n));
      }
    }
    __syncthreads();  // all threads have read the tiles
  }
  float* sums = reinterpret_cast<float*>(narrow_tiles);
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int n = 0; n < kExpandCols / 8; ++n)
#pragma unroll
      for (int j = 0; j < 2; ++j)
        sums[row_of_half(h) * kSumStride + column_of(n, j)] = alpha * sum[n][2 * h + j];
  __syncthreads();
  add_sums(out_NW, sums, {first_row, first_col}, {rows, width});
}

// ---- gradient of a factor: += alpha narrow' (r,N) wide (N,W), or its transpose

// One block per 32 columns of the wide matrix and up to kRank columns, over all rows, in stages
// that are divided among the warps; the sums of the warps are added in order.
constexpr int kGradientCols = 32, kGradientStages = 4;
template <int kRank>
constexpr int kGradientRows = kRank <= 16 ? 128 : 64;

template <int kRank, Factor kFactor, typename T>
constexpr size_t kGradientBytes = kGradientStages* kGradientRows<kRank>*(
    kStride<kGradientCols> + kHalves<kFactor> * kStride<kRank>)*sizeof(T);

// A (16,16) from the tile whose rows are A's columns.
template <int kCols, typename T>
GPU_DEVICE void load_a_of_columns(uint32_t (&a)[4], const T* tile) {
  const int lane = lane_of_thread();
  gpu::ldmatrix_x4_transposed(
      a, tile + (lane / 16 * 8 + lane % 8) * kStride<kCols> + lane / 8 % 2 * 8);
}

// Adds the warps' sums to `total`, one warp after the other.
template <int kRank>
GPU_DEVICE void add_warps(float* total, const float (&sum)[kRank / 16][kGradientCols / 8][4]) {
  const int g = lane_of_thread() / 4;
  for (int warp = 0; warp < kWarps; ++warp) {
    if (warp == warp_of_thread()) {
#pragma unroll
      for (int m = 0; m < kRank / 16; ++m)
#pragma unroll
        for (int n = 0; n < kGradientCols / 8; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            float& to = total[(m * 16 + g + i / 2 * 8) * kGradientCols + column_of(n, i)];
            to = warp == 0 ? sum[m][n][i] : to + sum[m][n][i];
          }
    }
    __syncthreads();
  }
}

template <int kRank, Factor kFactor, typename T>
__global__ void __launch_bounds__(kThreads)
    gradient_kernel(Rows<float> dfactor, Rows<const T> narrow_Nr, Rows<const T> wide_NW, int rows,
                    int width, int rank, float alpha) {
  constexpr int kRows = kGradientRows<kRank>, kWideTile = kRows * kStride<kGradientCols>;
  constexpr int kHalf = kRows * kStride<kRank>, kNarrowTile = kHalves<kFactor> * kHalf;
  gpu::SharedArrays arrays;
  T* wide_tiles = arrays.take<T>(kGradientStages * kWideTile);
  T* narrow_tiles = arrays.take<T>(kGradientStages * kNarrowTile);
  // Reuses the memory of the tiles, which all warps have read when the stages end.
  float* total = reinterpret_cast<float*>(wide_tiles);
  static_assert(kRank * kGradientCols * sizeof(float) <= kGradientStages * kWideTile * sizeof(T));
  static_assert(kGradientBytes<kRank, kFactor, T> <= kMostSharedBytes);
  const int first_col = static_cast<int>(blockIdx.x) * kGradientCols;
  const int first_rank = static_cast<int>(blockIdx.y) * kRank;
  float sum[kRank / 16][kGradientCols / 8][4] = {};
  for_stages<kRows, kGradientStages>(
      rows,
      [&](int stage, int n) {
        fetch<kRows, kGradientCols>(wide_tiles + stage * kWideTile, wide_NW, {n, first_col},
                                    {rows, width});
        fetch_narrow<kRows, kRank, kFactor>(narrow_tiles + stage * kNarrowTile, narrow_Nr,
                                            {n, first_rank}, {rows, rank});
      },
      [&](int stage, int) {
#pragma unroll
        for (int k = warp_of_thread() * 16; k < kRows; k += kWarps * 16) {
          const T* wide = wide_tiles + stage * kWideTile + k * kStride<kGradientCols>;
          const TwoB low = mma::load_b_of_rows<kGradientCols>(wide);
          const TwoB high = mma::load_b_of_rows<kGradientCols>(wide + 16);
#pragma unroll
          for (int half = 0; half < kHalves<kFactor>; ++half)
#pragma unroll
            for (int m = 0; m < kRank / 16; ++m) {
              uint32_t a[4];
              load_a_of_columns<kRank>(a, narrow_tiles + stage * kNarrowTile + half * kHalf +
                                              k * kStride<kRank> + m * 16);
              multiply_add<T>(sum[m][0], sum[m][1], a, low);
              multiply_add<T>(sum[m][2], sum[m][3], a, high);
            }
        }
      });
  add_warps<kRank>(total, sum);
  for (int i = static_cast<int>(threadIdx.x); i < kRank * kGradientCols; i += kThreads) {
    constexpr bool kByRank = kFactor == Factor::kRankByWide;
    const int r = kByRank ? i / kGradientCols : i % kRank;
    const int w = kByRank ? i % kGradientCols : i / kRank;
    if (first_rank + r >= rank || first_col + w >= width) continue;
    float* to = kByRank ? dfactor.row(first_rank + r) + first_col + w
                        : dfactor.row(first_col + w) + first_rank + r;
    *to += alpha * total[r * kGradientCols + w];
  }
}

}  // namespace facet::cuda::lora
