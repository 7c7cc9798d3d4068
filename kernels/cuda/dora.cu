// DoRA. norm (O) = the L2 norms of the rows of V (O,I) = weight + scale (right (I,r) left (r,O))',
// overwritten; y (N,O) = z magnitude/norm + bias + residual and dz (N,O) = dy magnitude/norm,
// overwritten; dmagnitude (O) += the column sums of dy z / norm.
//
// V is made in registers: a block has kNormRows of its rows and goes through the columns. Forward
// is element-wise. Backward has a block per kSumPacks packs of columns that goes through all rows,
// so sums run in a fixed order and need no workspace.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/norm_gradients.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda {
namespace {

GPU_DEVICE float ratio(float magnitude, float norm) { return norm > 0 ? magnitude / norm : 0.0f; }

// ---- norms

constexpr int kNormThreads = 256;
constexpr int kNormRows = 8;    // of V, per block
constexpr int kNormCols = 4;    // of V, per thread at a time
constexpr int kNormRank = 128;  // rows of left in shared memory at a time

template <typename T>
struct RowNorms {
  float* norm_O;
  Rows<const T> weight_OI, right_Ir, left_rO;
  int64_t outputs, inputs, rank;
  float scale;
  RowAccess access;  // of right
};

using LeftTile = float[kNormRank][kNormRows];
using Columns = float[kNormCols][kNormRows];

// scale left of the block's rows of V, zeros past the ends.
template <typename T>
GPU_DEVICE void load_left(LeftTile& tile, const RowNorms<T>& in, int64_t first_row, int64_t first) {
  for (int i = static_cast<int>(threadIdx.x); i < kNormRank * kNormRows; i += kNormThreads) {
    const int64_t k = first + i / kNormRows, o = first_row + i % kNormRows;
    const bool there = k < in.rank && o < in.outputs;
    tile[i / kNormRows][i % kNormRows] =
        there ? in.scale * gpu::to_float(in.left_rO.row(k)[o]) : 0.0f;
  }
}

GPU_DEVICE int64_t norm_column(int64_t begin, int j) {
  return begin + j * kNormThreads + static_cast<int>(threadIdx.x);
}

template <typename T>
GPU_DEVICE void load_weight(Columns& v, const RowNorms<T>& in, int64_t first_row, int64_t begin) {
#pragma unroll
  for (int j = 0; j < kNormCols; ++j)
#pragma unroll
    for (int r = 0; r < kNormRows; ++r) {
      const int64_t i = norm_column(begin, j), o = first_row + r;
      const bool there = i < in.inputs && o < in.outputs;
      v[j][r] = there ? gpu::to_float(in.weight_OI.row(o)[i]) : 0.0f;
    }
}

// v += of each column its row of right, from `first` on, times the tile of left.
template <typename T>
GPU_DEVICE void add_products(Columns& v, const LeftTile& left, const RowNorms<T>& in, int64_t first,
                             int64_t begin) {
  constexpr int kPack = kPackOf<T>;
  const int count = static_cast<int>(min(int64_t{kNormRank}, in.rank - first));
  for (int k = 0; k < count; k += kPack) {
    float right[kNormCols][kPack] = {};
#pragma unroll
    for (int j = 0; j < kNormCols; ++j)
      if (norm_column(begin, j) < in.inputs)
        load_floats(right[j], in.right_Ir.row(norm_column(begin, j)), first + k, in.rank,
                    in.access);
#pragma unroll
    for (int p = 0; p < kPack; ++p)
#pragma unroll
      for (int r = 0; r < kNormRows; ++r)
#pragma unroll
        for (int j = 0; j < kNormCols; ++j) v[j][r] += right[j][p] * left[k + p][r];
  }
}

template <typename T>
__global__ void __launch_bounds__(kNormThreads) dora_row_norms_kernel(RowNorms<T> in) {
  GPU_SHARED(float, left, [kNormRank][kNormRows]);
  const int64_t first_row = int64_t{blockIdx.x} * kNormRows;
  float sums[kNormRows] = {};
  for (int64_t begin = 0; begin < in.inputs; begin += kNormThreads * kNormCols) {
    Columns v;
    load_weight(v, in, first_row, begin);
    for (int64_t first = 0; first < in.rank; first += kNormRank) {
      load_left(left, in, first_row, first);
      __syncthreads();
      add_products(v, left, in, first, begin);
      __syncthreads();  // all have read the tile
    }
#pragma unroll
    for (int r = 0; r < kNormRows; ++r)
#pragma unroll
      for (int j = 0; j < kNormCols; ++j) sums[r] += v[j][r] * v[j][r];
  }
#pragma unroll
  for (int r = 0; r < kNormRows; ++r) {
    const float total = gpu::block_sum<kNormThreads>(sums[r]);
    if (threadIdx.x == 0 && first_row + r < in.outputs) in.norm_O[first_row + r] = sqrtf(total);
  }
}

// ---- magnitudes

template <typename T>
__global__ void __launch_bounds__(kElementThreads)
    dora_forward_kernel(Rows<T> y_NO, Rows<const T> z_NO, const T* magnitude_O, const float* norm_O,
                        const T* bias_O, Rows<const T> residual_NO, int64_t rows, int64_t cols,
                        RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  for_packs<kPack>(rows, cols, [=](int64_t r, int64_t c) {
    float z[kPack], magnitude[kPack], norm[kPack], added[kPack] = {}, bias[kPack] = {};
    load_floats(z, z_NO.row(r), c, cols, access);
    load_floats(magnitude, magnitude_O, c, cols, access);
    load_floats(norm, norm_O, c, cols, access);
    if (bias_O) load_floats(bias, bias_O, c, cols, access);
    if (residual_NO.data) load_floats(added, residual_NO.row(r), c, cols, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i) z[i] = z[i] * ratio(magnitude[i], norm[i]) + bias[i] + added[i];
    store_floats(y_NO.row(r), z, c, cols, access);
  });
}

template <typename T>
struct DoraBackward {
  Rows<T> dz_NO;
  float* dmagnitude_O;  // may be null
  Rows<const T> dy_NO, z_NO;
  const T* magnitude_O;
  const float* norm_O;
  int64_t rows, cols;
};

template <typename T>
__global__ void __launch_bounds__(kSumThreads)
    dora_backward_kernel(DoraBackward<T> pass, RowAccess access) {
  constexpr int kPack = kPackOf<T>, kRows = 4;  // of a thread, in flight at once
  GPU_SHARED(float, slots, [kSumSlots][kSumPacks * kPack]);
  const int slot = static_cast<int>(threadIdx.x) / kSumPacks;
  const int col = static_cast<int>(threadIdx.x) % kSumPacks * kPack;
  const int64_t first_col = int64_t{blockIdx.x} * kSumPacks * kPack, c = first_col + col;
  float magnitude[kPack], norm[kPack], factor[kPack], sum[kPack] = {};
  load_floats(magnitude, pass.magnitude_O, c, pass.cols, access);
  load_floats(norm, pass.norm_O, c, pass.cols, access);
#pragma unroll
  for (int i = 0; i < kPack; ++i) factor[i] = ratio(magnitude[i], norm[i]);
  for (int64_t first = slot; first < pass.rows; first += kRows * kSumSlots) {
    float dy[kRows][kPack] = {}, z[kRows][kPack] = {};
#pragma unroll
    for (int j = 0; j < kRows; ++j)
      if (const int64_t r = first + j * kSumSlots; r < pass.rows) {
        load_floats(dy[j], pass.dy_NO.row(r), c, pass.cols, access);
        load_floats(z[j], pass.z_NO.row(r), c, pass.cols, access);
      }
#pragma unroll
    for (int j = 0; j < kRows; ++j) {
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        sum[i] += dy[j][i] * z[j][i];
        dy[j][i] *= factor[i];
      }
      if (const int64_t r = first + j * kSumSlots; r < pass.rows)
        store_floats(pass.dz_NO.row(r), dy[j], c, pass.cols, access);
    }
  }
  if (!pass.dmagnitude_O) return;
#pragma unroll
  for (int i = 0; i < kPack; ++i) slots[slot][col + i] = ratio(sum[i], norm[i]);
  __syncthreads();
  add_slots<kPack>(pass.dmagnitude_O, slots, first_col, pass.cols);
}

Operand vector_of(const float* data, int64_t count) {
  return {const_cast<float*>(data), 1, count, count, DType::kF32};
}

}  // namespace

void dora_row_norms(float* norm_O, Operand weight_OI, Operand right_Ir, Operand left_rO,
                    float scale, cudaStream_t stream) {
  const int64_t outputs = weight_OI.rows;
  if (outputs == 0) return;
  with_type(weight_OI.dtype, [&](auto zero) {
    using T = decltype(zero);
    const auto blocks = static_cast<unsigned>((outputs + kNormRows - 1) / kNormRows);
    gpu::launch(stream, {.grid = blocks, .block = kNormThreads}, dora_row_norms_kernel<T>,
                RowNorms<T>{norm_O, rows_of<const T>(weight_OI), rows_of<const T>(right_Ir),
                            rows_of<const T>(left_rO), outputs, weight_OI.cols, right_Ir.cols,
                            scale, row_access({right_Ir})});
  });
}

void dora_forward(Operand y_NO, Operand z_NO, Operand magnitude_O, const float* norm_O,
                  Operand bias_O, Operand residual_NO, cudaStream_t stream) {
  const int64_t rows = y_NO.rows, cols = y_NO.cols;
  if (rows * cols == 0) return;
  const RowAccess access =
      row_access({y_NO, z_NO, magnitude_O, vector_of(norm_O, cols), bias_O, residual_NO});
  with_type(y_NO.dtype, [&](auto zero) {
    using T = decltype(zero);
    const unsigned blocks = element_blocks(packs_of(rows, cols, kPackOf<T>));
    gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, dora_forward_kernel<T>,
                rows_of<T>(y_NO), rows_of<const T>(z_NO), static_cast<const T*>(magnitude_O.data),
                norm_O, static_cast<const T*>(bias_O.data), rows_of<const T>(residual_NO), rows,
                cols, access);
  });
}

void dora_backward(Operand dz_NO, float* dmagnitude_O, Operand dy_NO, Operand z_NO,
                   Operand magnitude_O, const float* norm_O, cudaStream_t stream) {
  const int64_t rows = dy_NO.rows, cols = dy_NO.cols;
  if (rows * cols == 0) return;
  const RowAccess access = row_access({dz_NO, dy_NO, z_NO, magnitude_O, vector_of(norm_O, cols)});
  with_type(dy_NO.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int64_t kBlockCols = kSumPacks * kPackOf<T>;
    const auto blocks = static_cast<unsigned>((cols + kBlockCols - 1) / kBlockCols);
    gpu::launch(stream, {.grid = blocks, .block = kSumThreads}, dora_backward_kernel<T>,
                DoraBackward<T>{rows_of<T>(dz_NO), dmagnitude_O, rows_of<const T>(dy_NO),
                                rows_of<const T>(z_NO), static_cast<const T*>(magnitude_O.data),
                                norm_O, rows, cols},
                access);
  });
}

}  // namespace facet::cuda
