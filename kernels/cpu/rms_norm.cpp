#include <cmath>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/parallel.h"

namespace facet {

void CpuBackend::rms_norm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, float eps) {
  count_call();
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
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) out[c] = row[c] * scale * weight_D[c];
  });
}

// With n = x rstd and g = dy weight: dx = rstd (g - n mean(g n)), dweight = sum over rows of dy n.
void CpuBackend::rms_norm_backward(Tensor dx, Tensor dweight, Tensor dy, Tensor x, Tensor weight,
                                   Tensor rstd, Tensor dresidual) {
  count_call();
  const Matrix dx_ND(dx), dy_ND(dy), x_ND(x), dresidual_ND(dresidual);
  const float* weight_D = weight.f32();
  const float* rstd_N = rstd.f32();
  const int64_t cols = x_ND.cols;
  const bool weight_trained = dweight.defined();
  const ColumnSums sums = column_sums(weight_trained ? cols : 0);
  for_row_ranges(x_ND.rows, cols, [&](int64_t thread, int64_t begin, int64_t end) {
    float* dweight_sum = sums.of_thread(thread);
    for (int64_t r = begin; r < end; ++r) {
      const float *dyr = dy_ND.row(r), *xr = x_ND.row(r);
      const float scale = rstd_N[r];
      float mean = 0;
#pragma omp simd reduction(+ : mean)
      for (int64_t c = 0; c < cols; ++c) mean += dyr[c] * weight_D[c] * xr[c];
      mean *= scale / static_cast<float>(cols);
      if (weight_trained) {
#pragma omp simd
        for (int64_t c = 0; c < cols; ++c) dweight_sum[c] += dyr[c] * (xr[c] * scale);
      }
      float* out = dx_ND.row(r);
      if (dresidual_ND.data) {
        const float* add = dresidual_ND.row(r);
#pragma omp simd
        for (int64_t c = 0; c < cols; ++c)
          out[c] = add[c] + scale * (dyr[c] * weight_D[c] - xr[c] * scale * mean);
      } else {
#pragma omp simd
        for (int64_t c = 0; c < cols; ++c)
          out[c] = scale * (dyr[c] * weight_D[c] - xr[c] * scale * mean);
      }
    }
  });
  if (weight_trained) sums.add_to(dweight.f32(), 0, cols);
}

}  // namespace facet
