// RMS norm. y (N,D) = x rstd weight with rstd (N) = 1 / sqrt(mean(x^2) + eps), all overwritten.
// Backward overwrites dx (N,D), including dresidual if given, and y again if given, and adds to
// dweight (D). Parallel over rows; dweight is summed per thread, then added in thread order.
#include <cmath>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/parallel.h"

namespace facet {
namespace {

// scale: 1/rms
void normalise(float* y, const float* x, const float* weight, float scale, int64_t cols) {
#pragma omp simd
  for (int64_t c = 0; c < cols; ++c) y[c] = x[c] * scale * weight[c];
}

}  // namespace

void CpuBackend::do_rms_norm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, float eps,
                                     std::span<const LoraDown> downs) {
  const Matrix y_ND(y), x_ND(x);
  float* rstd_N = rstd.f32();
  const float* weight_D = weight.f32();
  for_rows(x_ND.rows, x_ND.cols, [=](int64_t r) {
    const float* row = x_ND.row(r);
    float* out = y_ND.row(r);
    const int64_t cols = x_ND.cols;
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t c = 0; c < cols; ++c) squares += row[c] * row[c];
    const float scale = 1.0f / std::sqrt(squares / static_cast<float>(cols) + eps);
    rstd_N[r] = scale;
    normalise(out, row, weight_D, scale, cols);
  });
  compute_downs(y, downs);
}

namespace {

struct RowGradient {
  const float *dy, *x, *weight, *dresidual;
  float scale;  // 1/rms
  int64_t cols;
};

// With n = x rstd and g = dy weight: dx = rstd (g - n mean(g n)).
void input_gradient(float* dx, const RowGradient& row) {
  const auto [dy, x, weight, dresidual, scale, cols] = row;
  float mean = 0;
#pragma omp simd reduction(+ : mean)
  for (int64_t c = 0; c < cols; ++c) mean += dy[c] * weight[c] * x[c];
  mean *= scale / static_cast<float>(cols);
  if (dresidual) {
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c)
      dx[c] = dresidual[c] + scale * (dy[c] * weight[c] - x[c] * scale * mean);
  } else {
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) dx[c] = scale * (dy[c] * weight[c] - x[c] * scale * mean);
  }
}

// dweight += dy n.
void add_weight_gradient(float* dweight, const RowGradient& row) {
  const float *dy = row.dy, *x = row.x;
  const float scale = row.scale;
#pragma omp simd
  for (int64_t c = 0; c < row.cols; ++c) dweight[c] += dy[c] * (x[c] * scale);
}

}  // namespace

// y, which may be dy, comes last of a row.
void CpuBackend::do_rms_norm_backward(Tensor dx, Tensor dweight, Tensor y, Tensor dy, Tensor x,
                                      Tensor weight, Tensor rstd, Tensor dresidual) {
  const Matrix dx_ND(dx), y_ND(y), dy_ND(dy), x_ND(x), dresidual_ND(dresidual);
  const float *weight_D = weight.f32(), *rstd_N = rstd.f32();
  const int64_t cols = x_ND.cols;
  const bool weight_trained = dweight.defined();
  const ColumnSums sums = column_sums(weight_trained ? cols : 0);
  for_row_ranges(x_ND.rows, cols, [&](int64_t thread, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const RowGradient row{dy_ND.row(r), x_ND.row(r),
                            weight_D,     dresidual_ND.data ? dresidual_ND.row(r) : nullptr,
                            rstd_N[r],    cols};
      if (weight_trained) add_weight_gradient(sums.of_thread(thread), row);
      input_gradient(dx_ND.row(r), row);
      if (y_ND.data) normalise(y_ND.row(r), row.x, weight_D, row.scale, cols);
    }
  });
  if (weight_trained) sums.add_to(dweight.f32(), 0, cols);
}

}  // namespace facet
