// RMS norm. y (N,D) = x rstd weight with rstd (N) = 1 / sqrt(mean(x^2) + eps), all overwritten.
// Backward overwrites dx (N,D), including dresidual if given, and y again if given, and adds to
// dweight (D).
//
// One block per row, two passes over the row; dweight is a separate launch (norm_gradients.h), and
// the first, since y may be dy.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/norm_gradients.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda {
namespace {

constexpr int kThreads = 256;  // one block per row

template <typename T>
__global__ void __launch_bounds__(kThreads)
    rms_norm_forward_kernel(Rows<T> y_ND, float* rstd_N, Rows<const T> x_ND, const T* weight_D,
                            int64_t cols, float eps, RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  const int64_t r = blockIdx.x, first = int64_t{threadIdx.x} * kPack;
  const T* x_D = x_ND.row(r);
  float squares = 0;
  for (int64_t c = first; c < cols; c += kThreads * kPack) {
    float x[kPack];
    load_floats(x, x_D, c, cols, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i) squares += x[i] * x[i];
  }
  squares = gpu::block_sum<kThreads>(squares);
  const float rstd = 1.0f / sqrtf(squares / static_cast<float>(cols) + eps);
  if (threadIdx.x == 0) rstd_N[r] = rstd;
  for (int64_t c = first; c < cols; c += kThreads * kPack) {
    float x[kPack], weight[kPack];
    load_floats(x, x_D, c, cols, access);
    load_floats(weight, weight_D, c, cols, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i) x[i] *= rstd * weight[i];
    store_floats(y_ND.row(r), x, c, cols, access);
  }
}

// With n = x rstd and g = dy weight: dx = rstd (g - n mean(g n)) + dresidual.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    rms_norm_backward_kernel(Rows<T> dx_ND, Rows<T> y_ND, Rows<const T> dy_ND, Rows<const T> x_ND,
                             const T* weight_D, const float* rstd_N, Rows<const T> dresidual_ND,
                             int64_t cols, RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  const int64_t r = blockIdx.x, first = int64_t{threadIdx.x} * kPack;
  const float rstd = rstd_N[r];
  const T *dy_D = dy_ND.row(r), *x_D = x_ND.row(r);
  float projection = 0;
  for (int64_t c = first; c < cols; c += kThreads * kPack) {
    float g[kPack], x[kPack], weight[kPack];
    load_floats(g, dy_D, c, cols, access);
    load_floats(x, x_D, c, cols, access);
    load_floats(weight, weight_D, c, cols, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i) projection += g[i] * weight[i] * x[i];
  }
  const float mean = gpu::block_sum<kThreads>(projection) * rstd / static_cast<float>(cols);
  for (int64_t c = first; c < cols; c += kThreads * kPack) {
    float g[kPack], x[kPack], weight[kPack], result[kPack] = {};
    load_floats(g, dy_D, c, cols, access);
    load_floats(x, x_D, c, cols, access);
    load_floats(weight, weight_D, c, cols, access);
    if (dresidual_ND.data) load_floats(result, dresidual_ND.row(r), c, cols, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      result[i] += rstd * (g[i] * weight[i] - x[i] * rstd * mean);
      x[i] *= rstd * weight[i];
    }
    store_floats(dx_ND.row(r), result, c, cols, access);
    if (y_ND.data) store_floats(y_ND.row(r), x, c, cols, access);
  }
}

}  // namespace

void rms_norm_forward(Operand y_ND, float* rstd_N, Operand x_ND, Operand weight_D, float eps,
                      cudaStream_t stream) {
  if (x_ND.rows == 0) return;
  with_type(x_ND.dtype, [&](auto zero) {
    using T = decltype(zero);
    gpu::launch(stream, {.grid = static_cast<unsigned>(x_ND.rows), .block = kThreads},
                rms_norm_forward_kernel<T>, rows_of<T>(y_ND), rstd_N, rows_of<const T>(x_ND),
                static_cast<const T*>(weight_D.data), x_ND.cols, eps,
                row_access({y_ND, x_ND, weight_D}));
  });
}

void rms_norm_backward(Operand dx_ND, float* dweight_D, Operand y_ND, Operand dy_ND, Operand x_ND,
                       Operand weight_D, const float* rstd_N, Operand dresidual_ND,
                       cudaStream_t stream) {
  if (x_ND.rows == 0) return;
  const RowAccess access = row_access({dx_ND, y_ND, dy_ND, x_ND, weight_D, dresidual_ND});
  with_type(x_ND.dtype, [&](auto zero) {
    using T = decltype(zero);
    add_norm_gradients<T>({dweight_D, nullptr, rows_of<const T>(dy_ND), rows_of<const T>(x_ND),
                           nullptr, rstd_N, x_ND.rows, x_ND.cols},
                          access, stream);
    gpu::launch(stream, {.grid = static_cast<unsigned>(x_ND.rows), .block = kThreads},
                rms_norm_backward_kernel<T>, rows_of<T>(dx_ND), rows_of<T>(y_ND),
                rows_of<const T>(dy_ND), rows_of<const T>(x_ND),
                static_cast<const T*>(weight_D.data), rstd_N, rows_of<const T>(dresidual_ND),
                x_ND.cols, access);
  });
}

}  // namespace facet::cuda
