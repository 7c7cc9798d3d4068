// Layer norm. y (N,D) = (x - mean) rstd weight + bias with mean, rstd (N) and biased variance, all
// overwritten. Backward overwrites dx (N,D), including dresidual if given, and adds to dweight and
// dbias (D).
//
// One block per row, three passes over the row forward and two backward; dweight and dbias are a
// separate launch (norm_gradients.h).
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/norm_gradients.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda {
namespace {

constexpr int kThreads = 256;  // one block per row

// The sum of body(x) over the row's elements.
template <typename T, typename Body>
GPU_DEVICE float row_sum(const T* x_D, int64_t cols, RowAccess access, const Body& body) {
  constexpr int kPack = kPackOf<T>;
  float sum = 0;
  for (int64_t c = int64_t{threadIdx.x} * kPack; c < cols; c += kThreads * kPack) {
    float x[kPack];
    load_floats(x, x_D, c, cols, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      if (c + i < cols) sum += body(x[i]);
  }
  return gpu::block_sum<kThreads>(sum);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    layer_norm_forward_kernel(Rows<T> y_ND, float* mean_N, float* rstd_N, Rows<const T> x_ND,
                              const T* weight_D, const T* bias_D, int64_t cols, float eps,
                              RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  const int64_t r = blockIdx.x;
  const T* x_D = x_ND.row(r);
  const float count = static_cast<float>(cols);
  const float mean = row_sum(x_D, cols, access, [](float x) { return x; }) / count;
  // A second pass: the mean square minus the squared mean would lose digits.
  const float variance =
      row_sum(x_D, cols, access, [=](float x) { return (x - mean) * (x - mean); }) / count;
  const float rstd = 1.0f / sqrtf(variance + eps);
  if (threadIdx.x == 0) {
    mean_N[r] = mean;
    rstd_N[r] = rstd;
  }
  for (int64_t c = int64_t{threadIdx.x} * kPack; c < cols; c += kThreads * kPack) {
    float x[kPack], weight[kPack], bias[kPack];
    load_floats(x, x_D, c, cols, access);
    load_floats(weight, weight_D, c, cols, access);
    load_floats(bias, bias_D, c, cols, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i) x[i] = (x[i] - mean) * rstd * weight[i] + bias[i];
    store_floats(y_ND.row(r), x, c, cols, access);
  }
}

// With n = (x - mean) rstd and g = dy weight: dx = rstd (g - mean(g) - n mean(g n)) + dresidual.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    layer_norm_backward_kernel(Rows<T> dx_ND, Rows<const T> dy_ND, Rows<const T> x_ND,
                               const T* weight_D, const float* mean_N, const float* rstd_N,
                               Rows<const T> dresidual_ND, int64_t cols, RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  const int64_t r = blockIdx.x, first = int64_t{threadIdx.x} * kPack;
  const float mean = mean_N[r], rstd = rstd_N[r], count = static_cast<float>(cols);
  const T *dy_D = dy_ND.row(r), *x_D = x_ND.row(r);
  float sum = 0, projection = 0;
  for (int64_t c = first; c < cols; c += kThreads * kPack) {
    float g[kPack], x[kPack], weight[kPack];
    load_floats(g, dy_D, c, cols, access);
    load_floats(x, x_D, c, cols, access);
    load_floats(weight, weight_D, c, cols, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      sum += g[i] * weight[i];
      projection += g[i] * weight[i] * ((x[i] - mean) * rstd);
    }
  }
  sum = gpu::block_sum<kThreads>(sum) / count;
  projection = gpu::block_sum<kThreads>(projection) / count;
  for (int64_t c = first; c < cols; c += kThreads * kPack) {
    float g[kPack], x[kPack], weight[kPack], result[kPack] = {};
    load_floats(g, dy_D, c, cols, access);
    load_floats(x, x_D, c, cols, access);
    load_floats(weight, weight_D, c, cols, access);
    if (dresidual_ND.data) load_floats(result, dresidual_ND.row(r), c, cols, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      result[i] += rstd * (g[i] * weight[i] - sum - (x[i] - mean) * rstd * projection);
    store_floats(dx_ND.row(r), result, c, cols, access);
  }
}

}  // namespace

void layer_norm_forward(Operand y_ND, float* mean_N, float* rstd_N, Operand x_ND, Operand weight_D,
                        Operand bias_D, float eps, cudaStream_t stream) {
  if (x_ND.rows == 0) return;
  with_type(x_ND.dtype, [&](auto zero) {
    using T = decltype(zero);
    gpu::launch(stream, {.grid = static_cast<unsigned>(x_ND.rows), .block = kThreads},
                layer_norm_forward_kernel<T>, rows_of<T>(y_ND), mean_N, rstd_N,
                rows_of<const T>(x_ND), static_cast<const T*>(weight_D.data),
                static_cast<const T*>(bias_D.data), x_ND.cols, eps,
                row_access({y_ND, x_ND, weight_D, bias_D}));
  });
}

void layer_norm_backward(Operand dx_ND, float* dweight_D, float* dbias_D, Operand dy_ND,
                         Operand x_ND, Operand weight_D, const float* mean_N, const float* rstd_N,
                         Operand dresidual_ND, cudaStream_t stream) {
  if (x_ND.rows == 0) return;
  const RowAccess access = row_access({dx_ND, dy_ND, x_ND, weight_D, dresidual_ND});
  with_type(x_ND.dtype, [&](auto zero) {
    using T = decltype(zero);
    add_norm_gradients<T>({dweight_D, dbias_D, rows_of<const T>(dy_ND), rows_of<const T>(x_ND),
                           mean_N, rstd_N, x_ND.rows, x_ND.cols},
                          access, stream);
    gpu::launch(stream, {.grid = static_cast<unsigned>(x_ND.rows), .block = kThreads},
                layer_norm_backward_kernel<T>, rows_of<T>(dx_ND), rows_of<const T>(dy_ND),
                rows_of<const T>(x_ND), static_cast<const T*>(weight_D.data), mean_N, rstd_N,
                rows_of<const T>(dresidual_ND), x_ND.cols, access);
  });
}

}  // namespace facet::cuda
