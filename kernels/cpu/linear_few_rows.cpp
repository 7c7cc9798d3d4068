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
// Below, one core is done before two have started. Of a product of one row reading takes the time,
// and a weight of 512 KiB takes one core ten microseconds.
constexpr int64_t kParallelFewRows = kParallelProducts / 4;

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

// The most rows that are computed together, and with how many outputs, by registers: sums, weights
// and a piece of x.
template <typename V>
constexpr int kRows = kWidth<V> == 16 ? 8 : 2;
template <typename V>
constexpr int outputs_beside(int rows) {
  if (kWidth<V> < 16) return 2;
  return rows > 6 ? 3 : 4;
}

template <typename T>
constexpr int64_t kLine = 64 / sizeof(T);  // of a row of the weight
// How far ahead of itself a row of the weight is fetched, and behind its end the row of the next
// outputs. Where there is little arithmetic beside the loads, as with one row in fp32, the
// processor looks as far ahead itself, and does so faster.
template <typename T>
constexpr int64_t kAhead = 2048 / sizeof(T);
template <typename T>
constexpr bool fetches_ahead(int rows) {
  return rows > 1 || sizeof(T) < sizeof(float);
}

template <typename V, int R, int O>
using Sums = Lanes<V>[R][O];

// The products of one step of kLanes inputs.
template <typename V, int R, int O, typename T>
FACET_INLINE void add_products(Sums<V, R, O>& sum, const float* x, int64_t x_stride,
                               const T* weight, int64_t stride) {
#pragma GCC unroll 2
  for (int part = 0; part < Lanes<V>::kParts; ++part) {
    const int64_t at_input = part * kWidth<V>;
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

template <typename V, int R, int O, typename T>
FACET_INLINE void multiply_block(const FewRows<T>& p, int64_t row, int64_t output) {
  Lanes<V> sum[R][O];
  const float* x = p.x.row(row);
  const T* weight = p.weight + output * p.weight_stride;
  const int64_t inputs = p.x.cols, x_stride = p.x.stride, stride = p.weight_stride;
  int64_t i = 0;
  for (; i + kLine<T> <= inputs; i += kLine<T>) {
    if constexpr (fetches_ahead<T>(R)) {
      const int64_t ahead =
          i + kAhead<T> < inputs ? i + kAhead<T> : i + kAhead<T> - inputs + O * stride;
#pragma GCC unroll 4
      for (int o = 0; o < O; ++o) __builtin_prefetch(weight + o * stride + ahead);
    }
#pragma GCC unroll 2
    for (int64_t step = 0; step < kLine<T>; step += kLanes)
      add_products<V, R, O>(sum, x + i + step, x_stride, weight + i + step, stride);
  }
  for (; i + kLanes <= inputs; i += kLanes)
    add_products<V, R, O>(sum, x + i, x_stride, weight + i, stride);
  for (int r = 0; r < R; ++r)
    for (int o = 0; o < O; ++o) {
      float total = sum[r][o].sum();
      for (int64_t rest = i; rest < inputs; ++rest)
        total = __builtin_fmaf(x[r * x_stride + rest], widened(weight[o * stride + rest]), total);
      p.write(row + r, output + o, total);
    }
}

// `rows` rows from `row` on, at most R.
template <typename V, int R, typename T>
FACET_INLINE void multiply_rows(const FewRows<T>& p, int64_t row, int64_t rows, Range outputs) {
  if constexpr (R > 0) {
    if (rows < R) return multiply_rows<V, R - 1>(p, row, rows, outputs);
    constexpr int O = outputs_beside<V>(R);
    int64_t output = outputs.begin;
    for (; output + O <= outputs.end; output += O) multiply_block<V, R, O>(p, row, output);
    for (; output < outputs.end; ++output) multiply_block<V, R, 1>(p, row, output);
  }
}

// More rows than one block has take turns at a tile of the weight that stays in a cache.
template <typename V, typename T>
FACET_INLINE void multiply_range(const FewRows<T>& p, Range outputs) {
  constexpr int64_t kTile = 12;  // a multiple of what blocks have
  const int64_t groups = (p.x.rows + kRows<V> - 1) / kRows<V>;
  const int64_t tile = groups == 1 ? outputs.end - outputs.begin : kTile;
  for (int64_t output = outputs.begin; output < outputs.end; output += tile)
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t row = p.x.rows * g / groups;
      multiply_rows<V, kRows<V>>(p, row, p.x.rows * (g + 1) / groups - row,
                                 {output, std::min(output + tile, outputs.end)});
    }
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
#pragma omp parallel if (x.rows * weight.numel() >= kParallelFewRows)
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
