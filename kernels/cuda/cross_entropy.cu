// Cross-entropy. row_loss (R) = log(sum(exp(logits))) - logits[label] from logits (R,V) and labels
// (R) int32, overwritten. forward_backward also overwrites logits by gradient_scale (softmax -
// onehot).
//
// One block per row: a pass for the maximum, a pass for the sum (fp32 per thread, then double), and
// a pass for the gradient.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda {
namespace {

constexpr int kThreads = 512;  // one block per row

// The row's softmax as exp(x - highest) / sum.
struct RowSoftmax {
  float highest;
  double sum;
};

template <typename T>
GPU_DEVICE RowSoftmax softmax_of(const T* logits_V, int64_t cols, RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  const int64_t first = int64_t{threadIdx.x} * kPack;
  float highest = -INFINITY;
  for (int64_t c = first; c < cols; c += kThreads * kPack) {
    float x[kPack];
    load_floats(x, logits_V, c, cols, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      if (c + i < cols) highest = fmaxf(highest, x[i]);
  }
  highest = gpu::block_max<kThreads>(highest);
  float sum = 0;
  for (int64_t c = first; c < cols; c += kThreads * kPack) {
    float x[kPack];
    load_floats(x, logits_V, c, cols, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      if (c + i < cols) sum += expf(x[i] - highest);
  }
  return {highest, gpu::block_sum<kThreads>(static_cast<double>(sum))};
}

GPU_DEVICE float loss_of(float label_logit, const RowSoftmax& row) {
  return static_cast<float>(log(row.sum) + static_cast<double>(row.highest) -
                            static_cast<double>(label_logit));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_forward_kernel(float* row_loss_R, Rows<const T> logits_RV,
                                 const int32_t* labels_R, int64_t cols, RowAccess access) {
  const int64_t r = blockIdx.x;
  const T* logits_V = logits_RV.row(r);
  const RowSoftmax row = softmax_of(logits_V, cols, access);
  if (threadIdx.x == 0) row_loss_R[r] = loss_of(gpu::to_float(logits_V[labels_R[r]]), row);
}

// Also overwrites logits by gradient_scale (softmax - onehot).
template <typename T>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_forward_backward_kernel(float* row_loss_R, Rows<T> logits_RV,
                                          const int32_t* labels_R, int64_t cols,
                                          float gradient_scale, RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  const int64_t r = blockIdx.x, label = labels_R[r];
  T* logits_V = logits_RV.row(r);
  const float label_logit = gpu::to_float(logits_V[label]);  // before the reductions' barriers
  const RowSoftmax row = softmax_of(logits_V, cols, access);
  if (threadIdx.x == 0) row_loss_R[r] = loss_of(label_logit, row);
  const float scale = static_cast<float>(static_cast<double>(gradient_scale) / row.sum);
  for (int64_t c = int64_t{threadIdx.x} * kPack; c < cols; c += kThreads * kPack) {
    float x[kPack];
    load_floats(x, logits_V, c, cols, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      x[i] = expf(x[i] - row.highest) * scale - (c + i == label ? gradient_scale : 0.0f);
    store_floats(logits_V, x, c, cols, access);
  }
}

}  // namespace

void cross_entropy_forward(float* row_loss_R, Operand logits_RV, const int32_t* labels_R,
                           cudaStream_t stream) {
  if (logits_RV.rows == 0) return;
  with_type(logits_RV.dtype, [&](auto zero) {
    using T = decltype(zero);
    gpu::launch(stream, {.grid = static_cast<unsigned>(logits_RV.rows), .block = kThreads},
                cross_entropy_forward_kernel<T>, row_loss_R, rows_of<const T>(logits_RV), labels_R,
                logits_RV.cols, row_access({logits_RV}));
  });
}

void cross_entropy_forward_backward(float* row_loss_R, Operand logits_RV, const int32_t* labels_R,
                                    float gradient_scale, cudaStream_t stream) {
  if (logits_RV.rows == 0) return;
  with_type(logits_RV.dtype, [&](auto zero) {
    using T = decltype(zero);
    gpu::launch(stream, {.grid = static_cast<unsigned>(logits_RV.rows), .block = kThreads},
                cross_entropy_forward_backward_kernel<T>, row_loss_R, rows_of<T>(logits_RV),
                labels_R, logits_RV.cols, gradient_scale, row_access({logits_RV}));
  });
}

}  // namespace facet::cuda
