// Linear layers by oneDNN's sgemm (gemm.h): y (N,O) = x (N,I) weight' (O,I) + bias (O) + residual
// (N,O), overwritten; dx (N,I) = or += dy weight; dweight (O,I) += dy' x, dbias (O) += the column
// sums of dy, summed per thread and added in thread order. bias and residual are written to y
// first, and the product is added.
#include "kernels/cpu/backend.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/parallel.h"

namespace facet {
namespace {

// y = residual + bias, to which the product is then added; one of the two may be absent.
void start_from(const Matrix& y, const float* bias, const Matrix& residual) {
  for_rows(y.rows, y.cols, [&](int64_t r) {
    float* to = y.row(r);
    const float* from = residual.data ? residual.row(r) : bias;
    const float* add = residual.data ? bias : nullptr;
    const int64_t cols = y.cols;
    if (add) {
#pragma omp simd
      for (int64_t c = 0; c < cols; ++c) to[c] = from[c] + add[c];
    } else if (from != to) {
#pragma omp simd
      for (int64_t c = 0; c < cols; ++c) to[c] = from[c];
    }
  });
}

}  // namespace

void CpuBackend::do_linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias,
                                   Tensor residual) {
  const Matrix y_NO(y), residual_NO(residual);
  const bool starts = bias.defined() || residual.defined();
  if (starts) start_from(y_NO, optional_f32(bias), residual_NO);
  const float beta = starts ? 1 : 0;
  if (decodes_)
    gemm_by_columns(Matrix(x), Matrix(weight), beta, y_NO);
  else
    gemm(Transpose::kNo, Transpose::kYes, 1, Matrix(x), Matrix(weight), beta, y_NO);
}

void CpuBackend::do_linear_backward_input(Tensor dx, Tensor dy, Tensor weight) {
  gemm(Transpose::kNo, Transpose::kNo, 1, Matrix(dy), Matrix(weight), 0, Matrix(dx));
}

void CpuBackend::do_linear_backward_input_accumulate(Tensor dx, Tensor dy, Tensor weight) {
  gemm(Transpose::kNo, Transpose::kNo, 1, Matrix(dy), Matrix(weight), 1, Matrix(dx));
}

void CpuBackend::do_linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dy, Tensor x) {
  const Matrix dy_NO(dy);
  if (dweight.defined())
    gemm(Transpose::kYes, Transpose::kNo, 1, dy_NO, Matrix(x), 1, Matrix(dweight));
  if (dbias.defined()) add_column_sums(dbias.f32(), dy_NO);
}

void CpuBackend::add_column_sums(float* total, const Matrix& x) {
  const ColumnSums sums = column_sums(x.cols);
  for_row_ranges(x.rows, x.cols, [&](int64_t thread, int64_t begin, int64_t end) {
    float* sum = sums.of_thread(thread);
    const int64_t cols = x.cols;
    for (int64_t r = begin; r < end; ++r) {
      const float* row = x.row(r);
#pragma omp simd
      for (int64_t c = 0; c < cols; ++c) sum[c] += row[c];
    }
  });
  sums.add_to(total, 0, x.cols);
}

}  // namespace facet
