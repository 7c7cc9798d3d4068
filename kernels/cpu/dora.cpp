// DoRA. norm (O) = the L2 norms of the rows of V (O,I) = weight + scale (right (I,r) left (r,O))',
// overwritten: a tile of V at a time is made in a thread's cache by oneDNN's sgemm (gemm.h), and
// its squares are added in double. y (N,O) = z magnitude/norm + bias + residual and dz (N,O) = dy
// magnitude/norm, overwritten; dmagnitude (O) += the column sums of dy z / norm, added in row
// order.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/gemm.h"

namespace facet {
namespace {

constexpr int64_t kTileRows = 16, kTileCols = 512;  // of V: 32 KiB

double sum_squares(const float* x, int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

struct Adapted {
  Matrix weight_OI, right_Ir, left_rO;
  float scale;

  // norm[0, count) of the rows of V from `first` on.
  void row_norms(float* norm, int64_t first, int64_t count) const {
    alignas(64) std::array<float, kTileRows * kTileCols> tile;
    std::array<double, kTileRows> sums{};
    Matrix left_rows = left_rO;
    left_rows.data += first;
    left_rows.cols = count;
    for (int64_t begin = 0; begin < weight_OI.cols; begin += kTileCols) {
      Matrix v, right_rows = right_Ir;
      v.data = tile.data();
      v.rows = count;
      v.cols = v.stride = std::min(kTileCols, weight_OI.cols - begin);
      right_rows.data = right_Ir.row(begin);
      right_rows.rows = v.cols;
      for (int64_t r = 0; r < count; ++r)
        std::memcpy(v.row(r), weight_OI.row(first + r) + begin,
                    static_cast<size_t>(v.cols) * sizeof(float));
      gemm(Transpose::kYes, Transpose::kYes, scale, left_rows, right_rows, 1, v);
      for (int64_t r = 0; r < count; ++r)
        sums[static_cast<size_t>(r)] += sum_squares(v.row(r), v.cols);
    }
    for (int64_t r = 0; r < count; ++r)
      norm[r] = static_cast<float>(std::sqrt(sums[static_cast<size_t>(r)]));
  }
};

float ratio(float magnitude, float norm) { return norm > 0 ? magnitude / norm : 0; }

// to[c] (+)= ... of columns [0, cols).
void scale_row(float* to, const float* z, const float* magnitude, const float* norm,
               const float* bias, const float* residual, int64_t cols) {
#pragma omp simd
  for (int64_t c = 0; c < cols; ++c)
    to[c] = z[c] * ratio(magnitude[c], norm[c]) + (bias ? bias[c] : 0.0f) +
            (residual ? residual[c] : 0.0f);
}

// dmagnitude_C, dz (N,C) of columns of dy and z from `begin` on.
void add_gradient(float* dmagnitude, const Matrix& dy, const Matrix& z, const float* norm,
                  int64_t begin, int64_t end) {
  constexpr int64_t kPieceCols = 1024;
  for (int64_t first = begin; first < end; first += kPieceCols) {
    const int64_t cols = std::min(kPieceCols, end - first);
    std::array<float, kPieceCols> sum{};
    float* const total = sum.data();
    for (int64_t r = 0; r < dy.rows; ++r) {
      const float *dy_C = dy.row(r) + first, *z_C = z.row(r) + first;
#pragma omp simd
      for (int64_t c = 0; c < cols; ++c) total[c] += dy_C[c] * z_C[c];
    }
    for (int64_t c = 0; c < cols; ++c) dmagnitude[first + c] += ratio(total[c], norm[first + c]);
  }
}

}  // namespace

void CpuBackend::do_dora_row_norms(Tensor norm, Tensor weight, Tensor right, Tensor left,
                                   float scale) {
  const Adapted v{Matrix(weight), Matrix(right), Matrix(left), scale};
  float* const norm_O = norm.f32();
  const int64_t rows = v.weight_OI.rows, tiles = (rows + kTileRows - 1) / kTileRows;
  for_rows(tiles, kTileRows * v.weight_OI.cols, [&](int64_t tile) {
    const int64_t first = tile * kTileRows;
    v.row_norms(norm_O + first, first, std::min(kTileRows, rows - first));
  });
}

void CpuBackend::do_dora_forward(Tensor y, Tensor z, Tensor magnitude, Tensor norm, Tensor bias,
                                 Tensor residual) {
  const Matrix y_NO(y), z_NO(z), residual_NO(residual);
  const float *magnitude_O = magnitude.f32(), *norm_O = norm.f32(), *bias_O = optional_f32(bias);
  for_rows(y_NO.rows, y_NO.cols, [&](int64_t r) {
    scale_row(y_NO.row(r), z_NO.row(r), magnitude_O, norm_O, bias_O,
              residual_NO.data ? residual_NO.row(r) : nullptr, y_NO.cols);
  });
}

void CpuBackend::do_dora_backward(Tensor dz, Tensor dmagnitude, Tensor dy, Tensor z,
                                  Tensor magnitude, Tensor norm) {
  const Matrix dz_NO(dz), dy_NO(dy), z_NO(z);
  const float *magnitude_O = magnitude.f32(), *norm_O = norm.f32();
  if (dmagnitude.defined()) {
    float* const dmagnitude_O = dmagnitude.f32();
    for_column_ranges(dy_NO.rows, dy_NO.cols, [&](int64_t begin, int64_t end) {
      add_gradient(dmagnitude_O, dy_NO, z_NO, norm_O, begin, end);
    });
  }
  for_rows(dz_NO.rows, dz_NO.cols, [&](int64_t r) {
    scale_row(dz_NO.row(r), dy_NO.row(r), magnitude_O, norm_O, nullptr, nullptr, dz_NO.cols);
  });
}

}  // namespace facet
