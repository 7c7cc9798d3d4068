// Operators that move, repeat and add whole rows.
//
// gather_rows: y[r] = x[index[r]], overwritten; backward zeroes dx (N,D) and writes row index[r] =
// dy[r] (indices are distinct). repeat_rows: y (copies*M,D) = x (M,D) repeated; backward overwrites
// dx with the sum over the copies. add_repeated_rows: y (copies*M,D) = x + rows (M,D) repeated;
// backward adds the sum over the copies to drows (M,D), fp32.
//
// All kernels are element-wise over packs of the output; sums run over the copies in order, in
// fp32.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda {
namespace {

// Row to_R[r] of y = row from_R[r] of x; without an index, row r of y or row r % period of x. Moves
// words of any element type.
template <typename Word>
__global__ void __launch_bounds__(kElementThreads)
    move_rows_kernel(Rows<Word> y, const int32_t* to_R, Rows<const Word> x, const int32_t* from_R,
                     int64_t period, int64_t rows, int64_t cols, RowAccess access) {
  constexpr int kPack = kPackOf<Word>;
  for_packs<kPack>(rows, cols, [=](int64_t r, int64_t c) {
    const Word* from = x.row(from_R ? from_R[r] : divided(r, period).rest) + c;
    Word* to = y.row(to_R ? to_R[r] : r) + c;
    if (access == RowAccess::kPacked && c + kPack <= cols)
      return gpu::store_pack_global(to, gpu::load_pack(from));
    for (int i = 0; i < kPack && c + i < cols; ++i) to[i] = from[i];
  });
}

// y (copies*M,D) = x + rows (M,D) repeated.
template <typename T>
__global__ void __launch_bounds__(kElementThreads)
    add_repeated_rows_kernel(Rows<T> y_KD, Rows<const T> x_KD, Rows<const T> rows_MD,
                             int64_t period, int64_t rows, int64_t cols, RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  for_packs<kPack>(rows, cols, [=](int64_t r, int64_t c) {
    float x[kPack], added[kPack];
    load_floats(x, x_KD.row(r), c, cols, access);
    load_floats(added, rows_MD.row(divided(r, period).rest), c, cols, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i) x[i] += added[i];
    store_floats(y_KD.row(r), x, c, cols, access);
  });
}

enum class Total : uint8_t { kOverwritten, kAddedTo };

// total (M,D) = or += the sum over the copies of dy (copies*M,D), in their order.
template <typename To, typename From>
__global__ void __launch_bounds__(kElementThreads)
    sum_copies_kernel(Rows<To> total_MD, Rows<const From> dy_KD, int64_t copies, int64_t rows,
                      int64_t cols, Total total, RowAccess access) {
  constexpr int kPack = gpu::Pack<gpu::bf16>::kSize;  // whole packs of both types
  for_packs<kPack>(rows, cols, [=](int64_t r, int64_t c) {
    float sum[kPack] = {};
    if (total == Total::kAddedTo) load_floats(sum, total_MD.row(r), c, cols, access);
    for (int64_t k = 0; k < copies; ++k) {
      float dy[kPack];
      load_floats(dy, dy_KD.row(k * rows + r), c, cols, access);
#pragma unroll
      for (int i = 0; i < kPack; ++i) sum[i] += dy[i];
    }
    store_floats(total_MD.row(r), sum, c, cols, access);
  });
}

template <typename Word>
void move_words(const Operand& y, const int32_t* to_R, const Operand& x, const int32_t* from_R,
                int64_t period, int64_t rows, cudaStream_t stream) {
  const unsigned blocks = element_blocks(packs_of(rows, y.cols, kPackOf<Word>));
  gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, move_rows_kernel<Word>,
              rows_of<Word>(y), to_R, rows_of<const Word>(x), from_R, period, rows, y.cols,
              row_access({y, x}));
}

void move_rows(const Operand& y, const int32_t* to_R, const Operand& x, const int32_t* from_R,
               int64_t period, int64_t rows, cudaStream_t stream) {
  if (rows * y.cols == 0) return;
  if (size_of(y.dtype) == sizeof(uint32_t))
    move_words<uint32_t>(y, to_R, x, from_R, period, rows, stream);
  else
    move_words<uint16_t>(y, to_R, x, from_R, period, rows, stream);
}

template <typename To, typename From>
void sum_copies(const Operand& total_MD, const Operand& dy_KD, Total total, cudaStream_t stream) {
  const int64_t rows = total_MD.rows, cols = total_MD.cols;
  const unsigned blocks = element_blocks(packs_of(rows, cols, gpu::Pack<gpu::bf16>::kSize));
  gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, sum_copies_kernel<To, From>,
              rows_of<To>(total_MD), rows_of<const From>(dy_KD), dy_KD.rows / rows, rows, cols,
              total, row_access({total_MD, dy_KD}));
}

}  // namespace

void gather_rows_forward(Operand y_RD, Operand x_ND, const int32_t* index_R, cudaStream_t stream) {
  move_rows(y_RD, nullptr, x_ND, index_R, x_ND.rows, y_RD.rows, stream);
}

void gather_rows_backward(Operand dx_ND, Operand dy_RD, const int32_t* index_R,
                          cudaStream_t stream) {
  fill(dx_ND, 0, stream);
  move_rows(dx_ND, index_R, dy_RD, nullptr, dy_RD.rows, dy_RD.rows, stream);
}

void repeat_rows_forward(Operand y_KD, Operand x_MD, cudaStream_t stream) {
  move_rows(y_KD, nullptr, x_MD, nullptr, x_MD.rows, y_KD.rows, stream);
}

void repeat_rows_backward(Operand dx_MD, Operand dy_KD, cudaStream_t stream) {
  if (dx_MD.rows * dx_MD.cols == 0) return;
  with_type(dx_MD.dtype, [&](auto zero) {
    using T = decltype(zero);
    sum_copies<T, T>(dx_MD, dy_KD, Total::kOverwritten, stream);
  });
}

void add_repeated_rows_forward(Operand y_KD, Operand x_KD, Operand rows_MD, cudaStream_t stream) {
  const int64_t rows = y_KD.rows, cols = y_KD.cols;
  if (rows * cols == 0) return;
  with_type(y_KD.dtype, [&](auto zero) {
    using T = decltype(zero);
    const unsigned blocks = element_blocks(packs_of(rows, cols, kPackOf<T>));
    gpu::launch(stream, {.grid = blocks, .block = kElementThreads}, add_repeated_rows_kernel<T>,
                rows_of<T>(y_KD), rows_of<const T>(x_KD), rows_of<const T>(rows_MD), rows_MD.rows,
                rows, cols, row_access({y_KD, x_KD, rows_MD}));
  });
}

void add_repeated_rows_backward(Operand drows_MD, Operand dy_KD, cudaStream_t stream) {
  if (drows_MD.rows * drows_MD.cols == 0) return;
  with_type(dy_KD.dtype, [&](auto zero) {
    sum_copies<float, decltype(zero)>(drows_MD, dy_KD, Total::kAddedTo, stream);
  });
}

}  // namespace facet::cuda
