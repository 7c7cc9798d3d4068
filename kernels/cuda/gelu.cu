// y (N,F) = activation(x), dx = dy activation'(x), both overwritten; the activation is GELU, x
// Phi(x) with erf, its form with tanh, or quick GELU, x sigmoid(1.702 x).
//
// Element-wise: each thread handles packs of 16 bytes. dx may be dy itself.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda {
namespace {

constexpr float kQuickSlope = 1.702f;
constexpr float kSqrtHalf = 0.70710678118f;        // 1 / sqrt(2)
constexpr float kInverseSqrt2Pi = 0.39894228040f;  // 1 / sqrt(2 pi)
constexpr float kTanhSlope = 1.59576912161f;       // 2 sqrt(2 / pi)
constexpr float kTanhCubic = 0.044715f;

// Each activation: value(x) and slope(x), its derivative.
struct QuickGelu {
  static GPU_DEVICE float gate(float x) { return 1.0f / (1.0f + expf(-kQuickSlope * x)); }
  static GPU_DEVICE float value(float x) { return x * gate(x); }
  static GPU_DEVICE float slope(float x) {
    const float s = gate(x);
    return s * (1.0f + kQuickSlope * x * (1.0f - s));
  }
};

struct Gelu {
  static GPU_DEVICE float normal_cdf(float x) { return 0.5f * (1.0f + erff(x * kSqrtHalf)); }
  static GPU_DEVICE float value(float x) { return x * normal_cdf(x); }
  static GPU_DEVICE float slope(float x) {
    return normal_cdf(x) + x * kInverseSqrt2Pi * expf(-0.5f * x * x);
  }
};

// x/2 (1 + tanh(u/2)) = x sigmoid(u), without the cancellation in 1 + tanh of negative x.
struct GeluTanh {
  static GPU_DEVICE float gate(float x) {
    return 1.0f / (1.0f + expf(-kTanhSlope * x * (1.0f + kTanhCubic * x * x)));
  }
  static GPU_DEVICE float value(float x) { return x * gate(x); }
  static GPU_DEVICE float slope(float x) {
    const float s = gate(x);
    return s * (1.0f + kTanhSlope * x * (1.0f + 3.0f * kTanhCubic * x * x) * (1.0f - s));
  }
};

template <typename Activation, typename T>
__global__ void __launch_bounds__(kElementThreads)
    gelu_forward_kernel(Rows<T> y_NF, Rows<const T> x_NF, int64_t rows, int64_t cols,
                        RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  for_packs<kPack>(rows, cols, [=](int64_t r, int64_t c) {
    float v[kPack];
    load_floats(v, x_NF.row(r), c, cols, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = Activation::value(v[i]);
    store_floats(y_NF.row(r), v, c, cols, access);
  });
}

template <typename Activation, typename T>
__global__ void __launch_bounds__(kElementThreads)
    gelu_backward_kernel(Rows<T> dx_NF, Rows<const T> dy_NF, Rows<const T> x_NF, int64_t rows,
                         int64_t cols, RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  for_packs<kPack>(rows, cols, [=](int64_t r, int64_t c) {
    float x[kPack], d[kPack];
    load_floats(x, x_NF.row(r), c, cols, access);
    load_floats(d, dy_NF.row(r), c, cols, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i) d[i] *= Activation::slope(x[i]);
    store_floats(dx_NF.row(r), d, c, cols, access);
  });
}

template <typename Activation>
void forward(const Operand& y_NF, const Operand& x_NF, cudaStream_t stream) {
  const int64_t rows = y_NF.rows, cols = y_NF.cols;
  if (rows * cols == 0) return;
  with_type(y_NF.dtype, [&](auto zero) {
    using T = decltype(zero);
    const unsigned blocks = element_blocks(packs_of(rows, cols, kPackOf<T>));
    gpu::launch(stream, {.grid = blocks, .block = kElementThreads},
                gelu_forward_kernel<Activation, T>, rows_of<T>(y_NF), rows_of<const T>(x_NF), rows,
                cols, row_access({y_NF, x_NF}));
  });
}

template <typename Activation>
void backward(const Operand& dx_NF, const Operand& dy_NF, const Operand& x_NF,
              cudaStream_t stream) {
  const int64_t rows = dx_NF.rows, cols = dx_NF.cols;
  if (rows * cols == 0) return;
  with_type(dx_NF.dtype, [&](auto zero) {
    using T = decltype(zero);
    const unsigned blocks = element_blocks(packs_of(rows, cols, kPackOf<T>));
    gpu::launch(stream, {.grid = blocks, .block = kElementThreads},
                gelu_backward_kernel<Activation, T>, rows_of<T>(dx_NF), rows_of<const T>(dy_NF),
                rows_of<const T>(x_NF), rows, cols, row_access({dx_NF, dy_NF, x_NF}));
  });
}

}  // namespace

void quick_gelu_forward(Operand y_NF, Operand x_NF, cudaStream_t stream) {
  forward<QuickGelu>(y_NF, x_NF, stream);
}
void quick_gelu_backward(Operand dx_NF, Operand dy_NF, Operand x_NF, cudaStream_t stream) {
  backward<QuickGelu>(dx_NF, dy_NF, x_NF, stream);
}
void gelu_forward(Operand y_NF, Operand x_NF, cudaStream_t stream) {
  forward<Gelu>(y_NF, x_NF, stream);
}
void gelu_backward(Operand dx_NF, Operand dy_NF, Operand x_NF, cudaStream_t stream) {
  backward<Gelu>(dx_NF, dy_NF, x_NF, stream);
}

void gelu_tanh_forward(Operand y_NF, Operand x_NF, cudaStream_t stream) {
  forward<GeluTanh>(y_NF, x_NF, stream);
}
void gelu_tanh_backward(Operand dx_NF, Operand dy_NF, Operand x_NF, cudaStream_t stream) {
  backward<GeluTanh>(dx_NF, dy_NF, x_NF, stream);
}

}  // namespace facet::cuda
