// Layer norm. y (N,D) = (x - mean) rstd weight + bias with mean, rstd (N) and biased variance, all
// overwritten. Backward overwrites dx (N,D), including dresidual if given, and adds to dweight and
// dbias (D). Parallel over rows; dweight and dbias are summed per thread, then added in thread
// order.
#include <cmath>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/parallel.h"

namespace facet {

void CpuBackend::do_layer_norm_forward(Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor weight,
                                       Tensor bias, float eps) {
  const Matrix y_ND(y), x_ND(x);
  float *mean_N = mean.f32(), *rstd_N = rstd.f32();
  const float *weight_D = weight.f32(), *bias_D = bias.f32();
  for_rows(x_ND.rows, x_ND.cols, [=](int64_t r) {
    const float* row = x_ND.row(r);
    float* out = y_ND.row(r);
    const int64_t cols = x_ND.cols;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < cols; ++c) sum += row[c];
    const float centre = sum / static_cast<float>(cols);
    // A second pass: the mean square minus the squared mean would lose digits.
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t c = 0; c < cols; ++c) squares += (row[c] - centre) * (row[c] - centre);
    const float scale = 1.0f / std::sqrt(squares / static_cast<float>(cols) + eps);
    mean_N[r] = centre;
    rstd_N[r] = scale;
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) out[c] = (row[c] - centre) * scale * weight_D[c] + bias_D[c];
  });
}

namespace {

struct RowGradient {
  const float *dy, *x, *weight, *dresidual;
  float centre, scale;
  int64_t cols;
};

// With n = (x - mean) rstd and g = dy weight: dx = rstd (g - mean(g) - n mean(g n)).
void input_gradient(float* dx, const RowGradient& row) {
  const auto [dy, x, weight, dresidual, centre, scale, cols] = row;
  float mean = 0, projection = 0;
#pragma omp simd reduction(+ : mean, projection)
  for (int64_t c = 0; c < cols; ++c) {
    const float g = dy[c] * weight[c];
    mean += g;
    projection += g * ((x[c] - centre) * scale);
  }
  mean /= static_cast<float>(cols);
  projection /= static_cast<float>(cols);
  if (dresidual) {
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c)
      dx[c] =
          dresidual[c] + scale * (dy[c] * weight[c] - mean - (x[c] - centre) * scale * projection);
  } else {
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c)
      dx[c] = scale * (dy[c] * weight[c] - mean - (x[c] - centre) * scale * projection);
  }
}

void add_parameter_gradients(float* dweight, float* dbias, const RowGradient& row) {
  const float *dy = row.dy, *x = row.x;
  const float centre = row.centre, scale = row.scale;
  if (dweight) {
#pragma omp simd
    for (int64_t c = 0; c < row.cols; ++c) dweight[c] += dy[c] * ((x[c] - centre) * scale);
  }
  if (dbias) {
#pragma omp simd
    for (int64_t c = 0; c < row.cols; ++c) dbias[c] += dy[c];
  }
}

}  // namespace

void CpuBackend::do_layer_norm_backward(Tensor dx, Tensor dweight, Tensor dbias, Tensor dy,
                                        Tensor x, Tensor weight, Tensor mean, Tensor rstd,
                                        Tensor dresidual) {
  const Matrix dx_ND(dx), dy_ND(dy), x_ND(x), dresidual_ND(dresidual);
  const float *weight_D = weight.f32(), *mean_N = mean.f32(), *rstd_N = rstd.f32();
  const int64_t cols = x_ND.cols;
  const bool weight_trained = dweight.defined(), bias_trained = dbias.defined();
  // Columns: the weight's sums, then the bias's.
  const ColumnSums sums = column_sums(weight_trained || bias_trained ? 2 * cols : 0);
  for_row_ranges(x_ND.rows, cols, [&](int64_t thread, int64_t begin, int64_t end) {
    float* sum = sums.of_thread(thread);
    for (int64_t r = begin; r < end; ++r) {
      const RowGradient row{
          dy_ND.row(r), x_ND.row(r), weight_D, dresidual_ND.data ? dresidual_ND.row(r) : nullptr,
          mean_N[r],    rstd_N[r],   cols};
      add_parameter_gradients(weight_trained ? sum : nullptr, bias_trained ? sum + cols : nullptr,
                              row);
      input_gradient(dx_ND.row(r), row);
    }
  });
  if (weight_trained) sums.add_to(dweight.f32(), 0, cols);
  if (bias_trained) sums.add_to(dbias.f32(), cols, cols);
}

}  // namespace facet
