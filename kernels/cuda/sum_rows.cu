// y (C) fp32 = the sum of the rows of x (R,C), or y += that sum, added in fp32 in row order; x is
// fp32, bf16 or fp16. The results have the same bits as on the CPU backend.
//
// Up to kFewRows rows each thread sums packs of columns; beyond, each block sums kTileCols columns
// through tiles in shared memory.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda {
namespace {

enum class Into : uint8_t { kReplace, kAdd };

constexpr float kNothing = -0.0f;  // -0 + x is x, bit for bit

// Two kernels that add the rows in the same order, and so give the same bits.

// Few rows of many columns: every thread sums a pack of columns over all rows.
template <typename T>
__global__ void __launch_bounds__(kElementThreads)
    sum_few_rows_kernel(float* y_C, Rows<const T> x_RC, int64_t rows, int64_t cols, Into into,
                        RowAccess access) {
  constexpr int kPack = gpu::Pack<gpu::bf16>::kSize;  // whole packs of both types
  for_packs<kPack>(1, cols, [=](int64_t, int64_t c) {
    float sum[kPack];
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum[i] = kNothing;
    for (int64_t r = 0; r < rows; ++r) {
      float x[kPack];
      load_floats(x, x_RC.row(r), c, cols, access);
#pragma unroll
      for (int i = 0; i < kPack; ++i) sum[i] += x[i];
    }
    if (into == Into::kAdd) {
      float y[kPack];
      load_floats(y, y_C, c, cols, access);
#pragma unroll
      for (int i = 0; i < kPack; ++i) sum[i] += y[i];
    }
    store_floats(y_C, sum, c, cols, access);
  });
}

constexpr int kTileThreads = 256, kTileCols = gpu::kWarpSize;

// A thread's packs of a tile of kTileCols columns, so that many reads are in flight at once.
template <typename T>
struct TileReads {
  static constexpr int kPack = kPackOf<T>, kPacksOfRow = kTileCols / kPack, kPacks = 4;
  static constexpr int kRows = kPacks * kTileThreads / kPacksOfRow;  // per tile
  float v[kPacks][kPack];

  GPU_DEVICE static int row_of(int pack) {
    return (pack * kTileThreads + static_cast<int>(threadIdx.x)) / kPacksOfRow;
  }
  GPU_DEVICE static int col() { return static_cast<int>(threadIdx.x) % kPacksOfRow * kPack; }

  GPU_DEVICE void load(const Rows<const T>& x_RC, int64_t first_row, int64_t first_col,
                       int64_t rows, int64_t cols, RowAccess access) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      if (first_row + row_of(p) < rows)
        load_floats(v[p], x_RC.row(first_row + row_of(p)), first_col + col(), cols, access);
  }
  GPU_DEVICE void store(float (&tile)[kRows][kTileCols]) const {
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
#pragma unroll
      for (int i = 0; i < kPack; ++i) tile[row_of(p)][col() + i] = v[p][i];
  }
};

// Many rows: one block per kTileCols columns. All its threads read the next tile of rows while the
// first warp adds those of the current one.
template <typename T>
__global__ void __launch_bounds__(kTileThreads)
    sum_many_rows_kernel(float* y_C, Rows<const T> x_RC, int64_t rows, int64_t cols, Into into,
                         RowAccess access) {
  using Reads = TileReads<T>;
  GPU_SHARED(float, tile, [Reads::kRows][kTileCols]);
  const int64_t first_col = int64_t{blockIdx.x} * kTileCols;
  const int column = static_cast<int>(threadIdx.x);
  const bool adds = column < kTileCols && first_col + column < cols;
  Reads reads{};
  reads.load(x_RC, 0, first_col, rows, cols, access);
  float sum = kNothing;
  for (int64_t first = 0; first < rows; first += Reads::kRows) {
    reads.store(tile);
    __syncthreads();
    reads.load(x_RC, first + Reads::kRows, first_col, rows, cols, access);
    const int count = static_cast<int>(min(int64_t{Reads::kRows}, rows - first));
    if (adds)
      for (int r = 0; r < count; ++r) sum += tile[r][column];
    __syncthreads();  // the first warp has read the tile
  }
  if (adds) y_C[first_col + column] = into == Into::kAdd ? y_C[first_col + column] + sum : sum;
}

constexpr int64_t kFewRows = 64;

void sum_all(float* y_C, const Operand& x_RC, Into into, cudaStream_t stream) {
  const int64_t rows = x_RC.rows, cols = x_RC.cols;
  if (rows * cols == 0) return;
  const Operand y{y_C, 1, cols, cols, DType::kF32};
  const RowAccess access = row_access({y, x_RC});
  with_type(x_RC.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (rows <= kFewRows) {
      const unsigned blocks = element_blocks(packs_of(1, cols, gpu::Pack<gpu::bf16>::kSize));
      gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, sum_few_rows_kernel<T>, y_C,
                  rows_of<const T>(x_RC), rows, cols, into, access);
    } else {
      const auto blocks = static_cast<unsigned>((cols + kTileCols - 1) / kTileCols);
      gpu::launch(stream, {.grid = blocks, .block = kTileThreads}, sum_many_rows_kernel<T>, y_C,
                  rows_of<const T>(x_RC), rows, cols, into, access);
    }
  });
}

}  // namespace

void sum_rows(float* y_C, Operand x_RC, cudaStream_t stream) {
  sum_all(y_C, x_RC, Into::kReplace, stream);
}

void sum_rows_accumulate(float* y_C, Operand x_RC, cudaStream_t stream) {
  sum_all(y_C, x_RC, Into::kAdd, stream);
}

}  // namespace facet::cuda
