// Products of few rows, as decoding has them: y (N,O) = x (N,I) weight' (O,I) + bias (O) + residual
// (N,O), overwritten, at the pace at which the weight is read. It is read once, in the type that it
// is stored in, and widened in registers; each thread has outputs of its own.
//
// An element of y is one sum: kLanes running sums over the inputs i, i + kLanes, ..., then those in
// halves, then the inputs that are left over, then what is added. So its bits depend neither on the
// other rows nor on threads or the width of vectors.
#include "kernels/cpu/backend.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace facet {
namespace {

constexpr int64_t kLanes = 16;

template <typename T>
struct FewRows {
  Matrix y, x, residual;
  const T* weight;
  int64_t weight_stride;
  const float* bias;

  FACET_INLINE void write(int64_t row, int64_t output, float product) const {
    if (bias != nullptr) product += bias[output];
    if (residual.data != nullptr) product += residual.row(row)[output];
    y.row(row)[output] = product;
  }
};

template <typename V>
struct Lanes {
  static constexpr int kParts = kLanes / kWidth<V>;
  V part[kParts] = {};

  FACET_INLINE float sum() const {
    const auto add = [](auto a, auto b) { return a + b; };
    if constexpr (kParts == 1)
      return reduce(part[0], add);
    else
      return reduce(part[0] + part[1], add);
  }
};

// How many rows and outputs are computed together, by registers: sums, weights and a piece of x.
template <typename V>
constexpr int kRows = kWidth<V> == 16 ? 5 : 2;
template <typename V>
constexpr int kOutputs = kWidth<V> == 16 ? 4 : 2;

// How far ahead of itself a row of the weight is fetched, and behind its end the row of the next
// outputs: the processor begins anew at every page.
template <typename T>
constexpr int64_t kAhead = 2048 / sizeof(T);

template <typename V, int R, int O, typename T>
FACET_INLINE void multiply_block(const FewRows<T>& p, int64_t row, int64_t output) {
  Lanes<V> sum[R][O];
  const float* x = p.x.row(row);
  const T* weight = p.weight + output * p.weight_stride;
  const int64_t inputs = p.x.cols, x_stride = p.x.stride, stride = p.weight_stride;
  int64_t i = 0;
  for (; i + kLanes <= inputs; i += kLanes) {
    const int64_t ahead =
        i + kAhead<T> < inputs ? i + kAhead<T> : i + kAhead<T> - inputs + O * stride;
#pragma GCC unroll 4
    for (int o = 0; o < O; ++o) __builtin_prefetch(weight + o * stride + ahead);
#pragma GCC unroll 2
    for (int part = 0; part < Lanes<V>::kParts; ++part) {
      const int64_t at_input = i + part * kWidth<V>;
      V factor[O];
#pragma GCC unroll 4
      for (int o = 0; o < O; ++o) load(factor[o], weight + o * stride + at_input);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        V value;
        load(value, x + r * x_stride + at_input);
#pragma GCC unroll 4
        for (int o = 0; o < O; ++o) sum[r][o].part[part] += value * factor[o];
      }
    }
  }
  for (int r = 0; r < R; ++r)
    for (int o = 0; o < O; ++o) {
      float total = sum[r][o].sum();
      for (int64_t rest = i; rest < inputs; ++rest)
        total = __builtin_fmaf(x[r * x_stride + rest], widened(weight[o * stride + rest]), total);
      p.write(row + r, output + o, total);
    }
}

// The remaining rows, at most R.
template <typename V, int R, int O, typename T>
FACET_INLINE void multiply_rest(const FewRows<T>& p, int64_t row, int64_t output) {
  if constexpr (R > 0) {
    if (p.x.rows - row == R)
      multiply_block<V, R, O>(p, row, output);
    else
      multiply_rest<V, R - 1, O>(p, row, output);
  }
}

template <typename V, int O, typename T>
FACET_INLINE void multiply_outputs(const FewRows<T>& p, int64_t output) {
  int64_t row = 0;
  for (; row + kRows<V> <= p.x.rows; row += kRows<V>)
    multiply_block<V, kRows<V>, O>(p, row, output);
  multiply_rest<V, kRows<V> - 1, O>(p, row, output);
}

template <typename V, typename T>
FACET_INLINE void multiply_range(const FewRows<T>& p, Range outputs) {
  int64_t output = outputs.begin;
  for (; output + kOutputs<V> <= outputs.end; output += kOutputs<V>)
    multiply_outputs<V, kOutputs<V>>(p, output);
  for (; output < outputs.end; ++output) multiply_outputs<V, 1>(p, output);
}

#if defined(FACET_AVX512)
template <typename T>
FACET_AVX512 void multiply_range_avx512(const FewRows<T>& p, Range outputs) {
  multiply_range<Vector16>(p, outputs);
}
#else
template <typename T>
constexpr auto multiply_range_avx512 = multiply_range<Vector8, T>;
#endif

template <typename T>
void multiply(const Matrix& y, const Matrix& x, const Tensor& weight, const float* bias,
              const Matrix& residual) {
  const FewRows<T> p{y, x, residual, weight.data<T>(), weight.row_stride(), bias};
#pragma omp parallel if (x.rows * weight.numel() >= kParallelProducts)
  {
    const Range outputs = line_range(y.cols);
    kHasAvx512 ? multiply_range_avx512<T>(p, outputs) : multiply_range<Vector8>(p, outputs);
  }
}

}  // namespace

void CpuBackend::do_linear_few_rows_forward(Tensor y, Tensor x, Tensor weight, Tensor bias,
                                            Tensor residual) {
  const Matrix y_NO(y), x_NI(x), residual_NO(residual);
  with_type(weight.dtype(), [&](auto zero) {
    multiply<decltype(zero)>(y_NO, x_NI, weight, optional_f32(bias), residual_NO);
  });
}

}  // namespace facet
