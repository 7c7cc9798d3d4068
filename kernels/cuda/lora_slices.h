// LoRA's backward with one reading of dy, on tensor cores and for ranks up to 32. A block takes a
// slice of 512 columns of dy and a range of its rows, and goes down the rows in steps of 64. Of a
// step it leaves what the slice adds to du = scale dy left'; what the rows add to dleft += scale u'
// dy stays in registers until the range ends. A second kernel adds du over the slices and dleft
// over the ranges, in their order, scales them, and goes on to dx as the pass over rows does.
//
// The sums in between are fp32: 4 r / 512 of the bytes of dy written, and read again. At rank 64,
// for which registers hold half as many columns, they would be as many bytes as a second reading.
// Slices and ranges follow from the shapes alone, and so do the bits: those of du from its part's,
// and those of dleft, whose ranges share a GPU with the other parts', from all parts'.
#pragma once

#include "kernels/cuda/lora_rows.h"

namespace facet::cuda::lora {

constexpr int kSliceCols = 512, kChunkCols = 64, kChunks = kSliceCols / kChunkCols;
constexpr int kSliceStages = 6;

// One of the layers with the same input. The sums are those of fragment_of(): of du for every slice
// and step of rows, of dleft, which may be absent, for every range, slice and chunk.
template <typename T>
struct SlicePart {
  Rows<const T> dy_NO, u_Nr, left_rO;
  float *du_sums, *dleft_sums;  // dleft's are null if it is absent
  int outputs, slices;
};
template <typename T>
struct SlicePass {
  SlicePart<T> parts[kMostParts] = {};
  int64_t rows;
  int rank, steps_of_range;
};

// A product's sums are stored as a block's threads hold them: this thread's four numbers of a C
// fragment, beside those of the other threads.
template <typename Float>
GPU_DEVICE Float* fragment_of(Float* sums, int64_t index) {
  return sums + (index * kThreads + static_cast<int>(threadIdx.x)) * 4;
}
GPU_DEVICE void store_fragment(float* to, const float (&c)[4]) {
  gpu::Pack<float> pack;
#pragma unroll
  for (int i = 0; i < 4; ++i) pack.v[i] = c[i];
  gpu::store_pack_global(to, pack);
}
// c = the sum of `count` fragments, in their order.
GPU_DEVICE void add_fragments(float (&c)[4], const float* sums, int64_t index, int64_t step,
                              int count) {
#pragma unroll
  for (int i = 0; i < 4; ++i) c[i] = 0;
#pragma unroll 8
  for (int of = 0; of < count; ++of) {
    const gpu::Pack<float> pack = gpu::load_pack(fragment_of(sums, index + of * step));
#pragma unroll
    for (int i = 0; i < 4; ++i) c[i] += pack.v[i];
  }
}

// ---- the products with dy

template <int kRank>
struct SliceShape {
  static constexpr int kLeft = kRank * kStride<kSliceCols>, kU = kBlockRows * kStride<kRank>,
                       kStage = kBlockRows * kStride<kChunkCols>;
  static constexpr int kShared = kLeft + kU + kSliceStages * kStage;  // elements
  static_assert(kShared * 2 <= kMostSharedBytes);
  // u has one tile: what is fetched ahead begins the next rows when all threads have theirs.
  static_assert(kSliceStages - 1 < kChunks);
};

// du of the warp's 16 rows += a chunk of dy times the same columns of left'.
template <int kRank, typename T>
GPU_DEVICE void multiply_du(float (&du)[kRank / 8][4], const T* dy, const T* left) {
  const T* rows_of_warp = dy + warp_of_thread() * kWarpRows * kStride<kChunkCols>;
#pragma unroll
  for (int k = 0; k < kChunkCols; k += 16) {
    uint32_t a[4];
    mma::load_a<kChunkCols>(a, rows_of_warp + k);
#pragma unroll
    for (int n = 0; n < kRank; n += 16)
      multiply_add<T>(du[n / 8], du[n / 8 + 1], a,
                      mma::load_b_of_columns<kSliceCols>(left + n * kStride<kSliceCols> + k));
  }
}

// A block's 64 rows of u', as A.
template <int kRank>
using RowsOfU = uint32_t[kBlockRows / 16][kRank / 16][4];

template <int kRank, typename T>
GPU_DEVICE void load_u(RowsOfU<kRank>& a, const T* u) {
#pragma unroll
  for (int k = 0; k < kBlockRows; k += 16)
#pragma unroll
    for (int m = 0; m < kRank; m += 16)
      load_a_of_columns<kRank>(a[k / 16][m / 16], u + k * kStride<kRank> + m);
}

// dleft of the warp's 16 columns of a chunk += u' dy.
template <int kRank, typename T>
GPU_DEVICE void multiply_dleft(float (&dleft)[kRank / 8][4], const RowsOfU<kRank>& u, const T* dy) {
#pragma unroll
  for (int k = 0; k < kBlockRows; k += 16) {
    const TwoB b =
        mma::load_b_of_rows<kChunkCols>(dy + k * kStride<kChunkCols> + warp_of_thread() * 16);
#pragma unroll
    for (int m = 0; m < kRank / 16; ++m)
      multiply_add<T>(dleft[2 * m], dleft[2 * m + 1], u[k / 16][m], b);
  }
}

// Blocks: every slice of every part, and the ranges of rows.
template <int kRank, typename T>
__global__ void __launch_bounds__(kThreads, 2) slice_kernel(SlicePass<T> pass) {
  using Shape = SliceShape<kRank>;
  gpu::SharedArrays arrays;
  T* left = arrays.take<T>(Shape::kLeft);
  T* u = arrays.take<T>(Shape::kU);
  T* stages = arrays.take<T>(kSliceStages * Shape::kStage);
  int slice = static_cast<int>(blockIdx.x), at = 0;
  for (; slice >= pass.parts[at].slices; ++at) slice -= pass.parts[at].slices;
  const SlicePart<T>& part = pass.parts[at];
  const bool wants_dleft = part.dleft_sums != nullptr;
  const int first_col = slice * kSliceCols;
  const int chunks = steps_of(part.outputs - first_col, kChunkCols);  // or more than there are
  const int all_steps = steps_of(static_cast<int>(pass.rows), kBlockRows);
  const int first_step = static_cast<int>(blockIdx.y) * pass.steps_of_range;
  const int end_step = min(first_step + pass.steps_of_range, all_steps);

  const auto begin = [&](int step, int chunk) {
    if (step < end_step && chunk < chunks) {
      const int64_t row = int64_t{step} * kBlockRows;
      fetch<kBlockRows, kChunkCols>(
          stages + (step * kChunks + chunk) % kSliceStages * Shape::kStage, part.dy_NO,
          {row, first_col + chunk * kChunkCols}, {pass.rows, part.outputs});
      if (chunk == 0 && wants_dleft)
        fetch<kBlockRows, kRank>(u, part.u_Nr, {row, 0}, {pass.rows, pass.rank});
    }
    gpu::cp_async_commit();
  };
  fetch<kRank, kSliceCols>(left, part.left_rO, {0, first_col}, {pass.rank, part.outputs});
  for (int chunk = 0; chunk < kSliceStages - 1; ++chunk) begin(first_step, chunk);

  float dleft[kChunks][kRank / 8][4];
#pragma unroll
  for (int c = 0; c < kChunks; ++c) clear(dleft[c]);
  for (int step = first_step; step < end_step; ++step) {
    float du[kRank / 8][4];
    clear(du);
    RowsOfU<kRank> u_of_step;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      gpu::cp_async_wait<kSliceStages - 2>();
      __syncthreads();  // the chunk is there, and all threads are done with the one before
      if (c == 0 && wants_dleft) load_u<kRank>(u_of_step, u);
      constexpr int kAhead = kSliceStages - 1;
      begin(step + (c + kAhead) / kChunks, (c + kAhead) % kChunks);
      if (c >= chunks) continue;
      const T* dy = stages + (step * kChunks + c) % kSliceStages * Shape::kStage;
      multiply_du<kRank>(du, dy, left + c * kChunkCols);
      if (wants_dleft) multiply_dleft<kRank>(dleft[c], u_of_step, dy);
    }
#pragma unroll
    for (int n = 0; n < kRank / 8; ++n)
      if (n * 8 < pass.rank)
        store_fragment(
            fragment_of(part.du_sums, (int64_t{slice} * all_steps + step) * (pass.rank / 8) + n),
            du[n]);
  }
  if (!wants_dleft) return;
  const int64_t first = (int64_t{blockIdx.y} * part.slices + slice) * kChunks;
#pragma unroll
  for (int c = 0; c < kChunks; ++c)
    if (c < chunks)
#pragma unroll
      for (int n = 0; n < kRank / 8; ++n)
        store_fragment(fragment_of(part.dleft_sums, (first + c) * (kRank / 8) + n), dleft[c][n]);
}

// ---- their sums

struct SumsOfPart {
  const float *du_sums, *dleft_sums;
  Rows<float> dleft_rO;
  int outputs, slices;
  int dleft_blocks;  // one for each chunk of columns; none if dleft is absent
};
struct SliceSums {
  SumsOfPart parts[kMostParts] = {};
  int ranges, row_blocks;
};

// du of the block's rows and one part, stored in two halves.
template <int kRank, typename T>
GPU_DEVICE void add_slices(const RowPass<T>& pass, const SumsOfPart& of, int part) {
  float sum[kRank / 8][4];
  clear(sum);
  const int fragments = pass.rank / 8;
  const int64_t step = int64_t{steps_of(static_cast<int>(pass.rows), kBlockRows)} * fragments;
#pragma unroll
  for (int n = 0; n < kRank / 8; ++n)
    if (n < fragments)
      add_fragments(sum[n], of.du_sums, int64_t{blockIdx.x} * fragments + n, step, of.slices);
  store_narrow_rows<kRank, 1, Factor::kRankByWide>(pass, {part, 0}, sum);
}

// dleft of a chunk of columns.
template <int kRank>
GPU_DEVICE void add_ranges(const SliceSums& sums, int rank, float scale) {
  int chunk = static_cast<int>(blockIdx.x) - sums.row_blocks, at = 0;
  for (; chunk >= sums.parts[at].dleft_blocks; ++at) chunk -= sums.parts[at].dleft_blocks;
  const SumsOfPart& part = sums.parts[at];
  constexpr int kFragments = kRank / 8;
  const int64_t step = int64_t{part.slices} * kChunks * kFragments;
#pragma unroll
  for (int n = 0; n < kFragments; ++n) {
    float sum[4];
    add_fragments(sum, part.dleft_sums, int64_t{chunk} * kFragments + n, step, sums.ranges);
    const int col = chunk * kChunkCols + warp_of_thread() * 16 + column_of(n % 2, 0);
    if (col >= part.outputs) continue;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int r = n / 2 * 16 + lane_of_thread() / 4 + 8 * h;
      if (r >= rank) continue;
      float* to = part.dleft_rO.row(r) + col;
      to[0] += scale * sum[2 * h];
      to[1] += scale * sum[2 * h + 1];
    }
  }
}

template <int kPlaces>
constexpr int kSumsShared = kOutStages* kOutStage<kPlaces, Factor::kWideByRank>;  // elements

// Blocks of rows, as in row_kernel, then those of dleft, which has none with kOutputs.
template <int kRank, int kParts, typename T>
__global__ void __launch_bounds__(kThreads, 2)
    slice_sums_kernel(RowPass<T> pass, SliceSums sums, Phases phases) {
  gpu::SharedArrays arrays;
  T* memory = arrays.take<T>(kSumsShared<kRank * kParts>);
  if (static_cast<int>(blockIdx.x) >= sums.row_blocks)
    return add_ranges<kRank>(sums, pass.rank, pass.narrow_scale);
  if (phases != Phases::kOutputs)
    for (int part = 0; part < pass.count; ++part) add_slices<kRank>(pass, sums.parts[part], part);
  if (phases != Phases::kNarrow)
    write_output<kRank, kParts, Factor::kWideByRank>(pass, 0, pass.count, memory);
}

}  // namespace facet::cuda::lora
