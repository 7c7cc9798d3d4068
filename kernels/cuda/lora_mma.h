// What LoRA's kernels on tensor cores have in common; lora.cu has the formulas, lora_rows.h,
// lora_slices.h and lora_gradients.h the kernels. They are bound by the wide matrices, which have
// as many columns as a layer has inputs or outputs. So tiles are chosen for many bytes in flight,
// and padding a rank to 16, 32 or 64 costs nothing. The narrow matrices of up to three layers with
// one input stand side by side, as far as their columns, the places, are no more than 96. Beyond
// that a wide matrix is read once for every so many.
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

constexpr int kMostParts = 3;  // q, k and v
constexpr int kThreads = 128, kWarps = kThreads / gpu::kWarpSize;
constexpr int kWarpRows = 16;
constexpr int kMostSlicedRank = 32;  // with which backward reads dy once (lora_slices.h)
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

GPU_DEVICE int steps_of(int size, int step) { return (size + step - 1) / step; }

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

// Whole packs only: every row begins on a 16-byte boundary and ends with a pack.
inline bool suits_tensor_cores(std::initializer_list<Operand> operands) {
  bool whole = row_access(operands) == RowAccess::kPacked;
  for (const Operand& x : operands) whole = whole && x.cols % gpu::Pack<gpu::bf16>::kSize == 0;
  return whole;
}

// The first element of a block of a matrix, and the matrix's size.
struct Corner {
  int64_t row, col;
};
struct Extent {
  int64_t rows, cols;
};

// Starts copying kRows x kCols elements to a place in a shared tile of kTileCols columns, with
// zeros outside the matrix, whose number of columns is a multiple of a pack.
template <int kRows, int kCols, int kTileCols = kCols, typename T>
GPU_DEVICE void fetch(T* tile, const Rows<const T>& from, Corner at, Extent size) {
  constexpr int kPack = gpu::Pack<T>::kSize, kPacks = kCols / kPack;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kPacks; i += kThreads) {
    const int r = i / kPacks, c = i % kPacks * kPack;
    const bool present = at.row + r < size.rows && at.col + c < size.cols;
    const T* source = present ? from.row(at.row + r) + at.col + c : from.data;
    gpu::cp_async_16(tile + r * kStride<kTileCols> + c, source, present ? 16 : 0);
  }
}

// How a factor between wide and narrow matrices is stored: right (I,r), whose narrow matrix in
// backward is du, or left (r,O), with u.
enum class Factor : uint8_t { kWideByRank, kRankByWide };

// Halves of a row of the narrow matrix that is multiplied by this factor: the two numbers of du.
template <Factor kFactor>
constexpr int kHalves = kFactor == Factor::kWideByRank ? 2 : 1;

// The places that a kernel processes at a time: kRank columns, from `rank` on, of the narrow
// matrices of kParts parts, from `part` on.
struct Chunk {
  int part, rank;
};

// B (16,16) of a tile at depth k and column n of the product.
template <int kCols, bool kDepthIsRow, typename T>
GPU_DEVICE TwoB load_b(const T* tile, int k, int n) {
  if constexpr (kDepthIsRow)
    return mma::load_b_of_rows<kCols>(tile + k * kStride<kCols> + n);
  else
    return mma::load_b_of_columns<kCols>(tile + n * kStride<kCols> + k);
}

// A (16,16) from the tile whose rows are A's columns.
template <int kCols, typename T>
GPU_DEVICE void load_a_of_columns(uint32_t (&a)[4], const T* tile) {
  const int lane = lane_of_thread();
  gpu::ldmatrix_x4_transposed(
      a, tile + (lane / 16 * 8 + lane % 8) * kStride<kCols> + lane / 8 % 2 * 8);
}

template <typename T>
GPU_DEVICE void multiply_add(float (&low)[4], float (&high)[4], const uint32_t (&a)[4],
                             const TwoB& two) {
  gpu::mma_m16n8k16<T>(low, a, two.b[0], low);
  gpu::mma_m16n8k16<T>(high, a, two.b[1], high);
}

}  // namespace facet::cuda::lora
