// Operators that move, repeat and add whole rows.
//
// gather_rows: y[r] = x[index[r]], overwritten; backward zeroes dx (N,D) and writes row index[r] =
// dy[r] (indices are distinct). repeat_rows: y (copies*M,D) = x (M,D) repeated; backward overwrites
// dx with the sum over the copies. add_repeated_rows: y (copies*M,D) = x + rows (M,D) repeated;
// backward adds the sum over the copies to drows (M,D). All are parallel over output rows; sums run
// over the copies in order.
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/backend.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/parallel.h"

namespace facet {
namespace {

void copy_row(const ByteRows& to, int64_t to_row, const ByteRows& from, int64_t from_row) {
  std::memcpy(to.row(to_row), from.row(from_row), static_cast<size_t>(to.bytes));
}

void add_row(float* to, const float* from, int64_t cols) {
#pragma omp simd
  for (int64_t c = 0; c < cols; ++c) to[c] += from[c];
}

void check_index(const int32_t* index_R, int64_t count, int64_t rows) {
  for (int64_t r = 0; r < count; ++r)
    ASSERT(index_R[r] >= 0 && index_R[r] < rows, "index {}: row {} of {}", r, index_R[r], rows);
}

}  // namespace

void CpuBackend::do_gather_rows_forward(Tensor y, Tensor x, Tensor index) {
  const ByteRows y_RD(y), x_ND(x);
  const int32_t* index_R = index.i32();
  check_index(index_R, y_RD.rows, x_ND.rows);
  for_rows(y_RD.rows, y.cols(), [=](int64_t r) { copy_row(y_RD, r, x_ND, index_R[r]); });
}

void CpuBackend::do_gather_rows_backward(Tensor dx, Tensor dy, Tensor index) {
  const ByteRows dx_ND(dx), dy_RD(dy);
  const int32_t* index_R = index.i32();
  check_index(index_R, dy_RD.rows, dx_ND.rows);
  for_rows(dx_ND.rows, dx.cols(),
           [=](int64_t r) { std::memset(dx_ND.row(r), 0, static_cast<size_t>(dx_ND.bytes)); });
  for_rows(dy_RD.rows, dy.cols(), [=](int64_t r) { copy_row(dx_ND, index_R[r], dy_RD, r); });
}

void CpuBackend::do_repeat_rows_forward(Tensor y, Tensor x, int64_t) {
  const ByteRows y_KD(y), x_MD(x);
  for_rows(y_KD.rows, y.cols(), [=](int64_t r) { copy_row(y_KD, r, x_MD, r % x_MD.rows); });
}

void CpuBackend::do_repeat_rows_backward(Tensor dx, Tensor dy, int64_t copies) {
  const Matrix dx_MD(dx), dy_KD(dy);
  for_rows(dx_MD.rows, copies * dx_MD.cols, [=](int64_t r) {
    std::memset(dx_MD.row(r), 0, static_cast<size_t>(dx_MD.cols) * sizeof(float));
    for (int64_t k = 0; k < copies; ++k)
      add_row(dx_MD.row(r), dy_KD.row(k * dx_MD.rows + r), dx_MD.cols);
  });
}

void CpuBackend::do_add_repeated_rows_forward(Tensor y, Tensor x, Tensor rows) {
  const Matrix y_KD(y), x_KD(x), rows_MD(rows);
  for_rows(y_KD.rows, y_KD.cols, [=](int64_t r) {
    const float *from = x_KD.row(r), *add = rows_MD.row(r % rows_MD.rows);
    float* to = y_KD.row(r);
    const int64_t cols = y_KD.cols;
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) to[c] = from[c] + add[c];
  });
}

void CpuBackend::do_add_repeated_rows_backward(Tensor drows, Tensor dy) {
  const Matrix drows_MD(drows), dy_KD(dy);
  const int64_t copies = dy_KD.rows == 0 ? 0 : dy_KD.rows / drows_MD.rows;
  for_rows(drows_MD.rows, copies * drows_MD.cols, [=](int64_t r) {
    for (int64_t k = 0; k < copies; ++k)
      add_row(drows_MD.row(r), dy_KD.row(k * drows_MD.rows + r), drows_MD.cols);
  });
}

}  // namespace facet
