// LoRA's pass over rows, on tensor cores: forward u = x right and y = addend + scale u left,
// backward du = scale dy left' and dx = addend + du right'. Of a block's 64 rows the wide matrices
// are read and then the others written; u and du stay in the block, and are stored for the
// gradients. Where lora_slices.h takes the rank, backward writes dx alone.
#pragma once

#include "kernels/cuda/lora_mma.h"

namespace facet::cuda::lora {

constexpr int kBlockRows = kWarps * kWarpRows;

enum class Way : uint8_t { kForward, kBackward };

// Few rows are few blocks. Then narrow products and outputs are launches of their own, and those of
// the outputs have more blocks, which blockIdx.y tells apart.
enum class Phases : uint8_t { kBoth, kNarrow, kOutputs };

// One of the layers with the same input.
template <typename T>
struct RowPart {
  Rows<const T> wide;  // x, which all parts have in common, or dy
  Rows<T> narrow_Nr;   // = narrow_scale wide `from`: u, or du in two halves
  Rows<const T> from, to;
  Rows<T> out;  // = addend + out_scale narrow `to`: y, or dx, which is the sum of all parts
  Rows<const T> addend;  // null data: none
  int width, out_width;
};
template <typename T>
struct RowPass {
  RowPart<T> parts[kMostParts] = {};
  int64_t rows;
  int count, rank;
  float narrow_scale, out_scale;
};

// A factor's tile of kWide rows and kPlaces columns, or the transpose if it is stored so.
template <int kWide, int kPlaces, Factor kFactor>
constexpr int kFactorTile =
    kFactor == Factor::kWideByRank ? kWide* kStride<kPlaces> : kPlaces* kStride<kWide>;

// Starts copying it; `factor_of(part)` is a part's factor. Places without a part are zero.
template <int kWide, int kRank, int kParts, Factor kFactor, typename T, typename FactorOf>
GPU_DEVICE void fetch_factors(T* tile, const RowPass<T>& pass, const FactorOf& factor_of,
                              Chunk chunk, int first_wide, int width) {
#pragma unroll
  for (int p = 0; p < kParts; ++p) {
    const bool present = chunk.part + p < pass.count;
    const Rows<const T> factor = factor_of(pass.parts[present ? chunk.part + p : 0]);
    const int rank = present ? pass.rank : 0;
    if constexpr (kFactor == Factor::kWideByRank)
      fetch<kWide, kRank, kRank * kParts>(tile + p * kRank, factor, {first_wide, chunk.rank},
                                          {width, rank});
    else
      fetch<kRank, kWide>(tile + p * kRank * kStride<kWide>, factor, {chunk.rank, first_wide},
                          {rank, width});
  }
}

// ---- narrow = narrow_scale wide factor

constexpr int kNarrowDepth = 64, kNarrowStages = 4;

template <int kPlaces, Factor kFactor>
constexpr int kNarrowStage =
    kBlockRows* kStride<kNarrowDepth> + kFactorTile<kNarrowDepth, kPlaces, kFactor>;

// Stores two neighbouring numbers: rounded, or du's (by left) as two each.
template <Factor kFactor, typename T>
GPU_DEVICE void store_narrow(T* to, int rank, float first, float second) {
  const T upper[2] = {gpu::from_float<T>(first), gpu::from_float<T>(second)};
  gpu::store_pair(to, gpu::pair_of<T>(first, second));
  if constexpr (kFactor == Factor::kRankByWide)
    gpu::store_pair(to + rank, gpu::pair_of<T>(first - gpu::to_float(upper[0]),
                                               second - gpu::to_float(upper[1])));
}

// Stores the sums of the warp's rows, scaled.
template <int kRank, int kParts, Factor kFactor, typename T>
GPU_DEVICE void store_narrow_rows(const RowPass<T>& pass, Chunk chunk,
                                  const float (&sum)[kRank * kParts / 8][4]) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int64_t row = int64_t{blockIdx.x} * kBlockRows + row_of_half(h);
    if (row >= pass.rows) continue;
#pragma unroll
    for (int n = 0; n < kRank * kParts / 8; ++n) {
      const int to_part = chunk.part + n * 8 / kRank;
      const int col = chunk.rank + column_of(n, 0) % kRank;
      if (to_part < pass.count && col < pass.rank)
        store_narrow<kFactor>(pass.parts[to_part].narrow_Nr.row(row) + col, pass.rank,
                              pass.narrow_scale * sum[n][2 * h],
                              pass.narrow_scale * sum[n][2 * h + 1]);
    }
  }
}

// The parts of a chunk have one wide matrix.
template <int kRank, int kParts, Factor kFactor, typename T>
GPU_DEVICE void multiply_narrow(const RowPass<T>& pass, Chunk chunk, T* memory) {
  constexpr bool kByWide = kFactor == Factor::kWideByRank;
  constexpr int kPlaces = kRank * kParts, kWideTile = kBlockRows * kStride<kNarrowDepth>;
  const int64_t first_row = int64_t{blockIdx.x} * kBlockRows;
  const RowPart<T>& part = pass.parts[chunk.part];
  float sum[kPlaces / 8][4];
  clear(sum);
  for_stages<kNarrowDepth, kNarrowStages>(
      part.width,
      [&](int stage, int w) {
        T* tile = memory + stage * kNarrowStage<kPlaces, kFactor>;
        fetch<kBlockRows, kNarrowDepth>(tile, part.wide, {first_row, w}, {pass.rows, part.width});
        fetch_factors<kNarrowDepth, kRank, kParts, kFactor>(
            tile + kWideTile, pass, [](const RowPart<T>& of) { return of.from; }, chunk, w,
            part.width);
      },
      [&](int stage, int) {
        const T* tile = memory + stage * kNarrowStage<kPlaces, kFactor>;
        const T* rows_of_warp = tile + warp_of_thread() * kWarpRows * kStride<kNarrowDepth>;
#pragma unroll
        for (int k = 0; k < kNarrowDepth; k += 16) {
          uint32_t a[4];
          mma::load_a<kNarrowDepth>(a, rows_of_warp + k);
#pragma unroll
          for (int n = 0; n < kPlaces; n += 16)
            multiply_add<T>(sum[n / 8], sum[n / 8 + 1], a,
                            load_b < kByWide ? kPlaces : kNarrowDepth,
                            kByWide > (tile + kWideTile, k, n));
        }
      });
  store_narrow_rows<kRank, kParts, kFactor>(pass, chunk, sum);
}

// ---- out = addend + out_scale times the sum over the parts of narrow factor

constexpr int kOutCols = 128, kOutStages = 2;

template <int kPlaces, Factor kFactor>
constexpr int kOutStage = kBlockRows* kStride<kOutCols> + kFactorTile<kOutCols, kPlaces, kFactor>;

// A (16,16) of the narrow matrices: the thread loads what it has stored itself.
template <int kRank, typename T>
GPU_DEVICE void load_narrow(uint32_t (&a)[4], const RowPass<T>& pass, Chunk chunk, int half,
                            int place) {
  const int part = chunk.part + place / kRank;
  const Rows<T>& narrow_Nr = pass.parts[part < pass.count ? part : 0].narrow_Nr;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t row = int64_t{blockIdx.x} * kBlockRows + row_of_half(i % 2);
    const int col = chunk.rank + place % kRank + column_of(i / 2, 0);
    const bool present = row < pass.rows && part < pass.count && col < pass.rank;
    a[i] = present ? gpu::load_pair(narrow_Nr.row(row) + half * pass.rank + col) : 0;
  }
}

// Adds the warp's sums to the tile of addends, or overwrites it if there are none.
template <typename T>
GPU_DEVICE void add_to_tile(T* tile, const float (&sum)[kOutCols / 8][4], float scale,
                            bool has_addend) {
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int n = 0; n < kOutCols / 8; ++n) {
      T* to = tile + row_of_half(h) * kStride<kOutCols> + column_of(n, 0);
      float first = scale * sum[n][2 * h], second = scale * sum[n][2 * h + 1];
      if (has_addend) {
        first += gpu::to_float(to[0]);
        second += gpu::to_float(to[1]);
      }
      gpu::store_pair(to, gpu::pair_of<T>(first, second));
    }
}

template <typename T>
GPU_DEVICE void store_tile(const Rows<T>& out, const T* tile, Corner at, Extent size) {
  constexpr int kPack = gpu::Pack<T>::kSize, kPacks = kOutCols / kPack;
#pragma unroll
  for (int i = 0; i < kBlockRows * kPacks / kThreads; ++i) {
    const int at_pack = static_cast<int>(threadIdx.x) + i * kThreads;
    const int r = at_pack / kPacks, c = at_pack % kPacks * kPack;
    if (at.row + r < size.rows && at.col + c < size.cols)
      gpu::store_pack_global(out.row(at.row + r) + at.col + c,
                             gpu::load_pack(tile + r * kStride<kOutCols> + c));
  }
}

// The output of the parts from first_part to end_part, in tiles of 128 columns.
template <int kRank, int kParts, Factor kFactor, typename T>
GPU_DEVICE void write_output(const RowPass<T>& pass, int first_part, int end_part, T* memory) {
  constexpr bool kByRank = kFactor == Factor::kRankByWide;
  constexpr int kPlaces = kRank * kParts, kOutTile = kBlockRows * kStride<kOutCols>;
  const int64_t first_row = int64_t{blockIdx.x} * kBlockRows;
  const RowPart<T>& part = pass.parts[first_part];
  const bool has_addend = part.addend.data != nullptr;
  const int chunks_of_rank = steps_of(pass.rank, kRank);
  const int chunks = steps_of(end_part - first_part, kParts) * chunks_of_rank;
  const int first_tile = static_cast<int>(blockIdx.y), step_of_tile = static_cast<int>(gridDim.y);
  const int tiles = steps_of(steps_of(part.out_width, kOutCols) - first_tile, step_of_tile);
  const auto chunk_of = [&](int step) {
    const int chunk = step % chunks;
    return Chunk{first_part + chunk / chunks_of_rank * kParts, chunk % chunks_of_rank * kRank};
  };
  const auto column_of_step = [&](int step) {
    return (first_tile + step / chunks * step_of_tile) * kOutCols;
  };
  uint32_t a[kHalves<kFactor>][kPlaces / 16][4];
  float sum[kOutCols / 8][4];
  for_stages<1, kOutStages>(
      tiles * chunks,
      [&](int stage, int step) {
        T* tile = memory + stage * kOutStage<kPlaces, kFactor>;
        const int col = column_of_step(step);
        fetch_factors<kOutCols, kRank, kParts, kFactor>(
            tile + kOutTile, pass, [](const RowPart<T>& of) { return of.to; }, chunk_of(step), col,
            part.out_width);
        if (has_addend && step % chunks == chunks - 1)
          fetch<kBlockRows, kOutCols>(tile, part.addend, {first_row, col},
                                      {pass.rows, part.out_width});
      },
      [&](int stage, int step) {
        T* tile = memory + stage * kOutStage<kPlaces, kFactor>;
        if (step == 0 || chunks > 1) {
#pragma unroll
          for (int half = 0; half < kHalves<kFactor>; ++half)
#pragma unroll
            for (int k = 0; k < kPlaces; k += 16)
              load_narrow<kRank>(a[half][k / 16], pass, chunk_of(step), half, k);
        }
        if (step % chunks == 0) clear(sum);
#pragma unroll
        for (int k = 0; k < kPlaces; k += 16)
#pragma unroll
          for (int n = 0; n < kOutCols; n += 16) {
            const TwoB b = load_b < kByRank ? kOutCols : kPlaces, kByRank > (tile + kOutTile, k, n);
#pragma unroll
            for (int half = 0; half < kHalves<kFactor>; ++half)
              multiply_add<T>(sum[n / 8], sum[n / 8 + 1], a[half][k / 16], b);
          }
        if (step % chunks != chunks - 1) return;
        add_to_tile(tile, sum, pass.out_scale, has_addend);
        __syncthreads();  // the warps' rows are stored by all threads
        store_tile(part.out, tile, {first_row, column_of_step(step)}, {pass.rows, part.out_width});
      });
}

// ---- both

template <int kRank, int kParts, Way kWay>
struct RowShape {
  static constexpr bool kIsForward = kWay == Way::kForward;
  static constexpr Factor kFrom = kIsForward ? Factor::kWideByRank : Factor::kRankByWide;
  static constexpr Factor kTo = kIsForward ? Factor::kRankByWide : Factor::kWideByRank;
  // How many parts share a wide matrix that is read, and one that is written.
  static constexpr int kNarrowParts = kIsForward ? kParts : 1, kOutParts = kIsForward ? 1 : kParts;
  static constexpr int kNarrow = kNarrowStages * kNarrowStage<kRank * kNarrowParts, kFrom>;
  static constexpr int kOut = kOutStages * kOutStage<kRank * kOutParts, kTo>;
  static constexpr int kShared = kNarrow > kOut ? kNarrow : kOut;  // elements
  static_assert(kShared * 2 <= kMostSharedBytes);
};

template <int kRank, int kParts, Way kWay, typename T>
__global__ void __launch_bounds__(kThreads, 2) row_kernel(RowPass<T> pass, Phases phases) {
  using Shape = RowShape<kRank, kParts, kWay>;
  gpu::SharedArrays arrays;
  T* memory = arrays.take<T>(Shape::kShared);
  if (phases != Phases::kOutputs)
    for (int part = 0; part < pass.count; part += Shape::kNarrowParts)
      for (int rank = 0; rank < pass.rank; rank += kRank)
        multiply_narrow<kRank, Shape::kNarrowParts, Shape::kFrom>(pass, {part, rank}, memory);
  if (phases == Phases::kNarrow) return;
  if constexpr (Shape::kIsForward) {
    for (int part = 0; part < pass.count; ++part)
      write_output<kRank, 1, Shape::kTo>(pass, part, part + 1, memory);
  } else {
    write_output<kRank, kParts, Shape::kTo>(pass, 0, pass.count, memory);
  }
}

}  // namespace facet::cuda::lora
