// y (N,F) = activation(x), dx = dy activation'(x), both overwritten; the activation is GELU, x
// Phi(x) with erf, its form with tanh, or quick GELU, x sigmoid(1.702 x). dx may be dy itself.
// Parallel over rows.
#include "kernels/cpu/backend.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"

namespace facet {
namespace {

constexpr float kQuickSlope = 1.702f;
constexpr float kSqrtHalf = 0.70710678118f;        // 1 / sqrt(2)
constexpr float kInverseSqrt2Pi = 0.39894228040f;  // 1 / sqrt(2 pi)
constexpr float kTanhSlope = 1.59576912161f;       // 2 sqrt(2 / pi)
constexpr float kTanhCubic = 0.044715f;

// Each activation: value(x) and slope(x), its derivative.
struct QuickGelu {
  static float value(float x) { return x * fast_sigmoid(kQuickSlope * x); }
  static float slope(float x) {
    const float s = fast_sigmoid(kQuickSlope * x);
    return s * (1.0f + kQuickSlope * x * (1.0f - s));
  }
};

struct Gelu {
  static float normal_cdf(float x) { return 0.5f * (1.0f + fast_erf(x * kSqrtHalf)); }
  static float value(float x) { return x * normal_cdf(x); }
  static float slope(float x) {
    return normal_cdf(x) + x * kInverseSqrt2Pi * fast_exp(-0.5f * x * x);
  }
};

// x/2 (1 + tanh(u/2)) = x sigmoid(u), without the cancellation in 1 + tanh of negative x.
struct GeluTanh {
  static float gate(float x) { return fast_sigmoid(kTanhSlope * x * (1.0f + kTanhCubic * x * x)); }
  static float value(float x) { return x * gate(x); }
  static float slope(float x) {
    const float s = gate(x);
    return s * (1.0f + kTanhSlope * x * (1.0f + 3.0f * kTanhCubic * x * x) * (1.0f - s));
  }
};

template <typename Function>
void forward(const Matrix& y, const Matrix& x) {
  for_rows(y.rows, y.cols, [=](int64_t r) {
    const float* from = x.row(r);
    float* to = y.row(r);
    const int64_t cols = y.cols;
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) to[c] = Function::value(from[c]);
  });
}

template <typename Function>
void backward(const Matrix& dx, const Matrix& dy, const Matrix& x) {
  for_rows(dx.rows, dx.cols, [=](int64_t r) {
    const float *from = x.row(r), *d = dy.row(r);
    float* to = dx.row(r);
    const int64_t cols = dx.cols;
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) to[c] = d[c] * Function::slope(from[c]);
  });
}

}  // namespace

void CpuBackend::do_gelu_forward(Tensor y, Tensor x, Activation activation) {
  switch (activation) {
    case Activation::kQuickGelu: return forward<QuickGelu>(Matrix(y), Matrix(x));
    case Activation::kGelu: return forward<Gelu>(Matrix(y), Matrix(x));
    case Activation::kGeluTanh: return forward<GeluTanh>(Matrix(y), Matrix(x));
  }
}

void CpuBackend::do_gelu_backward(Tensor dx, Tensor dy, Tensor x, Activation activation) {
  switch (activation) {
    case Activation::kQuickGelu: return backward<QuickGelu>(Matrix(dx), Matrix(dy), Matrix(x));
    case Activation::kGelu: return backward<Gelu>(Matrix(dx), Matrix(dy), Matrix(x));
    case Activation::kGeluTanh: return backward<GeluTanh>(Matrix(dx), Matrix(dy), Matrix(x));
  }
}

}  // namespace facet
