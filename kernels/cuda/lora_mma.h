// LoRA's products on tensor cores; lora.cu has the formulas. Up to rank 64 each reads its wide
// matrix once (or reads and writes it), and is bound by that. So the tiles are chosen for many
// bytes in flight, and padding a rank to 16 or 64 costs nothing. Beyond rank 64 the narrow products
// and the gradients read the wide matrix once for every 64.
//
// du is fp32: it is split into two 16-bit numbers whose products are added. In bf16 that keeps 16
// bits. In fp16 it keeps 22 bits from 1/4 on; below, the second number is subnormal or zero, so
// that the absolute error stays under 2^-25, small elements have fewer bits and those under 2^-25
// none: the loss scale keeps gradients above that. Beyond 65504 the sum is NaN, which is treated
// like an infinity: the loss scale is too large.
#pragma once

#include "kernels/cuda/fragments.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda::lora {

using mma::kStride, mma::TwoB, mma::lane_of_thread;

constexpr int kThreads = 128, kWarps = kThreads / gpu::kWarpSize;
constexpr int kWarpRows = 16;

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

// A narrow matrix (N,r) as 16-bit tiles: the matrix itself, or the two parts of an fp32 one.
template <typename Narrow>
constexpr int kParts = std::is_same_v<Narrow, float> ? 2 : 1;

template <int kRows, int kCols, typename T>
GPU_DEVICE void fetch_parts(T* parts, const Rows<const T>& from, Corner at, Extent size) {
  fetch<kRows, kCols>(parts, from, at, size);
}
template <int kRows, int kCols, typename T>
GPU_DEVICE void fetch_parts(T* parts, const Rows<const float>& from, Corner at, Extent size) {
  T* rest = parts + kRows * kStride<kCols>;
  constexpr int kPack = gpu::Pack<float>::kSize, kPacks = kCols / kPack;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kPacks; i += kThreads) {
    const int r = i / kPacks, c = i % kPacks * kPack, place = r * kStride<kCols> + c;
    const bool present = at.row + r < size.rows && at.col + c < size.cols;
    gpu::Pack<float> x{};
    if (present) x = gpu::load_pack(from.row(at.row + r) + at.col + c);
#pragma unroll
    for (int j = 0; j < kPack; ++j) {
      const T upper = gpu::from_float<T>(x.v[j]);
      parts[place + j] = upper;
      rest[place + j] = gpu::from_float<T>(x.v[j] - gpu::to_float(upper));
    }
  }
}

// How a factor between wide and narrow matrices is stored.
enum class Factor : uint8_t { kWideByRank, kRankByWide };  // right (I,r), left (r,O)

// B (16,16) of a factor's tile at depth k and column n of the product.
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

GPU_DEVICE void put_two(float* to, float first, float second) {
  to[0] = first;
  to[1] = second;
}
template <typename T>
GPU_DEVICE void put_two(T* to, float first, float second) {
  gpu::store_pair(to, gpu::pair_of<T>(first, second));
}

template <typename T>
GPU_DEVICE void add_two(T* to, float first, float second) {
  const uint32_t pair = gpu::load_pair(to);
  T before[2];
  memcpy(static_cast<void*>(before), &pair, sizeof pair);
  put_two(to, gpu::to_float(before[0]) + first, gpu::to_float(before[1]) + second);
}

// ---- narrow: out (N,r) = alpha wide (N,W) factor

constexpr int kNarrowRows = kWarps * kWarpRows, kNarrowDepth = 64;

template <int kRank>
constexpr int kFactorTile =
    kNarrowDepth* kStride<kRank> > kRank* kStride<kNarrowDepth> ? kNarrowDepth* kStride<kRank>
                                                                : kRank* kStride<kNarrowDepth>;

template <int kRank, typename T>
constexpr size_t kNarrowBytes = 2 * (kNarrowRows * kStride<kNarrowDepth> +
                                     kFactorTile<kRank>)*sizeof(T);

// One block per 64 rows and up to kRank columns of out.
template <int kRank, Factor kFactor, typename Out, typename T>
__global__ void __launch_bounds__(kThreads)
    narrow_kernel(Rows<Out> out_Nr, Rows<const T> wide_NW, Rows<const T> factor, int64_t rows,
                  int width, int rank, float alpha) {
  constexpr bool kByWide = kFactor == Factor::kWideByRank;
  constexpr int kWideTile = kNarrowRows * kStride<kNarrowDepth>;
  gpu::SharedArrays arrays;
  T* wide_tiles = arrays.take<T>(2 * kWideTile);
  T* factor_tiles = arrays.take<T>(2 * kFactorTile<kRank>);
  const int64_t first_row = int64_t{blockIdx.x} * kNarrowRows;
  const int first_rank = static_cast<int>(blockIdx.y) * kRank;
  float sum[kRank / 8][4];
  clear(sum);
  for_stages<kNarrowDepth>(
      width,
      [&](int stage, int w) {
        fetch<kNarrowRows, kNarrowDepth>(wide_tiles + stage * kWideTile, wide_NW, {first_row, w},
                                         {rows, width});
        T* tile = factor_tiles + stage * kFactorTile<kRank>;
        if constexpr (kByWide)
          fetch<kNarrowDepth, kRank>(tile, factor, {w, first_rank}, {width, rank});
        else
          fetch<kRank, kNarrowDepth>(tile, factor, {first_rank, w}, {rank, width});
      },
      [&](int stage, int) {
        const T* rows_of_warp =
            wide_tiles + stage * kWideTile + warp_of_thread() * kWarpRows * kStride<kNarrowDepth>;
        const T* tile = factor_tiles + stage * kFactorTile<kRank>;
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
        put_two(out_Nr.row(row) + col, alpha * sum[n][2 * h], alpha * sum[n][2 * h + 1]);
    }
  }
}

// ---- expand: out (N,W) += alpha narrow (N,r) factor

constexpr int kExpandRows = kWarps * kWarpRows, kExpandCols = 64;

template <int kRank>
constexpr int kExpandFactorTile =
    kExpandCols* kStride<kRank> > kRank* kStride<kExpandCols> ? kExpandCols* kStride<kRank>
                                                              : kRank* kStride<kExpandCols>;
template <int kRank, typename Narrow, typename T>
constexpr size_t kExpandBytes = (kParts<Narrow> * kExpandRows * kStride<kRank> +
                                 kExpandFactorTile<kRank>)*sizeof(T);

template <int kRank, Factor kFactor, typename Narrow, typename T>
__global__ void __launch_bounds__(kThreads)
    expand_kernel(Rows<T> out_NW, Rows<const Narrow> narrow_Nr, Rows<const T> factor, int64_t rows,
                  int width, int rank, float alpha) {
  constexpr bool kByRank = kFactor == Factor::kRankByWide;
  constexpr int kNarrowTile = kExpandRows * kStride<kRank>;
  gpu::SharedArrays arrays;
  T* narrow_parts = arrays.take<T>(kParts<Narrow> * kNarrowTile);
  T* factor_tile = arrays.take<T>(kExpandFactorTile<kRank>);
  const int64_t first_row = int64_t{blockIdx.x} * kExpandRows;
  const int first_col = static_cast<int>(blockIdx.y) * kExpandCols;
  float sum[kExpandCols / 8][4];
  clear(sum);
  for (int first_rank = 0; first_rank < rank; first_rank += kRank) {
    fetch_parts<kExpandRows, kRank>(narrow_parts, narrow_Nr, {first_row, first_rank}, {rows, rank});
    if constexpr (kByRank)
      fetch<kRank, kExpandCols>(factor_tile, factor, {first_rank, first_col}, {rank, width});
    else
      fetch<kExpandCols, kRank>(factor_tile, factor, {first_col, first_rank}, {width, rank});
    gpu::cp_async_commit();
    gpu::cp_async_wait<0>();
    __syncthreads();
    const T* rows_of_warp = narrow_parts + warp_of_thread() * kWarpRows * kStride<kRank>;
#pragma unroll
    for (int k = 0; k < kRank; k += 16) {
#pragma unroll
      for (int part = 0; part < kParts<Narrow>; ++part) {
        uint32_t a[4];
        mma::load_a<kRank>(a, rows_of_warp + part * kNarrowTile + k);
#pragma unroll
        for (int n = 0; n < kExpandCols; n += 16)
          multiply_add<T>(sum[n / 8], sum[n / 8 + 1], a, load_b < kByRank ? kExpandCols : kRank,
                          kByRank > (factor_tile, k, n));
      }
    }
    __syncthreads();  // all threads have read the tiles
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int64_t row = first_row + row_of_half(h);
    if (row >= rows) continue;
#pragma unroll
    for (int n = 0; n < kExpandCols / 8; ++n) {
      const int col = first_col + column_of(n, 0);
      if (col >= width) continue;
      add_two(out_NW.row(row) + col, alpha * sum[n][2 * h], alpha * sum[n][2 * h + 1]);
    }
  }
}

// ---- gradient of a factor: += alpha narrow' (r,N) wide (N,W), or its transpose

// One block per 32 columns of the wide matrix and up to kRank columns of the narrow one, over all
// rows, in stages of 128 rows that are divided among the warps; the sums of the warps are added in
// order.
constexpr int kGradientCols = 32, kGradientRows = 128;

template <int kRank, typename Narrow, typename T>
constexpr size_t kGradientBytes = 2 * kGradientRows*(kStride<kGradientCols> +
                                                     kParts<Narrow> * kStride<kRank>)*sizeof(T);
// The limit per block on compute capabilities 8.6, 8.9 and 12.
constexpr size_t kMostSharedBytes = size_t{99} << 10;

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

template <int kRank, Factor kFactor, typename Narrow, typename T>
__global__ void __launch_bounds__(kThreads)
    gradient_kernel(Rows<float> dfactor, Rows<const Narrow> narrow_Nr, Rows<const T> wide_NW,
                    int rows, int width, int rank, float alpha) {
  constexpr int kWideTile = kGradientRows * kStride<kGradientCols>;
  constexpr int kPart = kGradientRows * kStride<kRank>, kNarrowTile = kParts<Narrow> * kPart;
  gpu::SharedArrays arrays;
  T* wide_tiles = arrays.take<T>(2 * kWideTile);
  T* narrow_tiles = arrays.take<T>(2 * kNarrowTile);
  // Reuses the memory of the tiles, which all warps have read when the stages end.
  float* total = reinterpret_cast<float*>(wide_tiles);
  static_assert(kRank * kGradientCols * sizeof(float) <= 2 * kWideTile * sizeof(T));
  static_assert(kGradientBytes<kRank, Narrow, T> <= kMostSharedBytes);
  const int first_col = static_cast<int>(blockIdx.x) * kGradientCols;
  const int first_rank = static_cast<int>(blockIdx.y) * kRank;
  float sum[kRank / 16][kGradientCols / 8][4] = {};
  for_stages<kGradientRows>(
      rows,
      [&](int stage, int n) {
        fetch<kGradientRows, kGradientCols>(wide_tiles + stage * kWideTile, wide_NW, {n, first_col},
                                            {rows, width});
        fetch_parts<kGradientRows, kRank>(narrow_tiles + stage * kNarrowTile, narrow_Nr,
                                          {n, first_rank}, {rows, rank});
      },
      [&](int stage, int) {
#pragma unroll
        for (int k = warp_of_thread() * 16; k < kGradientRows; k += kWarps * 16) {
          const T* wide = wide_tiles + stage * kWideTile + k * kStride<kGradientCols>;
          const TwoB low = mma::load_b_of_rows<kGradientCols>(wide);
          const TwoB high = mma::load_b_of_rows<kGradientCols>(wide + 16);
#pragma unroll
          for (int part = 0; part < kParts<Narrow>; ++part)
#pragma unroll
            for (int m = 0; m < kRank / 16; ++m) {
              uint32_t a[4];
              load_a_of_columns<kRank>(a, narrow_tiles + stage * kNarrowTile + part * kPart +
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
