#include "kernels/cpu/attention_tile.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace facet::attention {
namespace {

// How many rows and vectors of a product fit into the registers.
template <typename V>
struct Traits;
template <>
struct Traits<Vector8> {
  static constexpr int kRows = 6, kVectors = 2;
};
template <>
struct Traits<Vector16> {
  static constexpr int kRows = 8, kVectors = 2;
};
constexpr int64_t kMostRows = 8;  // the largest kRows

// ---- products

// R rows and N vectors of c, kept in registers over all of k.
template <typename V, int R, int N>
FACET_INLINE void multiply_block(const Product& p, int64_t row, int64_t column, int64_t k_begin,
                                 int64_t k_end) {
  V sum[R][N] = {};
  const float* a = p.a + row * p.a_row + k_begin * p.a_k;
  const float* b[N];
  for (int n = 0; n < N; ++n) {
    const int64_t at_column = column + n * kWidth<V>;
    b[n] = p.b + at_column / kLanes * p.b_panel + k_begin * p.b_row + at_column % kLanes;
  }
  for (int64_t k = k_begin; k < k_end; ++k, a += p.a_k) {
    V factor[N];
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) {
      factor[n] = at<V>(b[n]);
      b[n] += p.b_row;
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const float value = a[r * p.a_row];
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n) sum[r][n] += value * factor[n];
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int n = 0; n < N; ++n) {
      Unaligned<V>& c = at<V>(p.c + (row + r) * p.c_row + column + n * kWidth<V>);
      c = p.mode == Product::Mode::kAdd ? c + sum[r][n] : sum[r][n];
    }
  }
}

template <typename V, int R>
FACET_INLINE void multiply_rows(const Product& p, int64_t row) {
  const int64_t last = row + R - 1;
  const int64_t columns = padded(p.column_end ? p.column_end[last] : p.columns);
  const int64_t k_begin = p.k_begin ? p.k_begin[row] : 0, k_end = p.k_end ? p.k_end[last] : p.k;
  constexpr int64_t kStep = Traits<V>::kVectors * kWidth<V>;
  int64_t column = 0;
  for (; column + kStep <= columns; column += kStep)
    multiply_block<V, R, Traits<V>::kVectors>(p, row, column, k_begin, k_end);
  for (; column < columns; column += kWidth<V>)
    multiply_block<V, R, 1>(p, row, column, k_begin, k_end);
}

// The remaining rows, at most R.
template <typename V, int R>
FACET_INLINE void multiply_rest(const Product& p, int64_t row) {
  if constexpr (R > 0) {
    if (p.rows - row == R)
      multiply_rows<V, R>(p, row);
    else
      multiply_rest<V, R - 1>(p, row);
  }
}

template <typename V>
FACET_INLINE void multiply_all(const Product& p) {
  constexpr int kRows = Traits<V>::kRows;
  int64_t row = 0;
  for (; row + kRows <= p.rows; row += kRows) multiply_rows<V, kRows>(p, row);
  multiply_rest<V, kRows - 1>(p, row);
}

// ---- softmax

// x = exp(x) to 2 units in the last place for x in [-87.3, 88]; below, the smallest normal number;
// above, unspecified.
template <typename V>
FACET_INLINE void exponentiate(V& x) {
  using Integer = typename VectorTypes<V>::Integer;
  constexpr float kRound = 0x1.8p23f;  // adding it leaves an integer in the low bits
  const V lowest = V{} - 87.33f;
  x = x < lowest ? lowest : x;
  const V shifted = x * 0x1.715476p0f + kRound;  // x log2(e)
  const V n = shifted - kRound;
  const V r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;  // n ln(2) in two pieces
  // The series of exp(r), |r| <= ln(2)/2: the first term left out is below 2^-26.
  V sum = r * (1.0f / 5040) + 1.0f / 720;
  sum = sum * r + 1.0f / 120;
  sum = sum * r + 1.0f / 24;
  sum = sum * r + 1.0f / 6;
  sum = sum * r + 0.5f;
  sum = (r * r) * sum + r;
  const Integer power = (reinterpret_cast<Integer>(shifted) + 127) << 23;
  const V two_to_n = reinterpret_cast<V>(power);
  x = sum * two_to_n + two_to_n;
}

// Zeros row r after its visible weights, as far as a product that processes up to kMostRows rows
// (of queries or keys) at once reads. Writes whole vectors, into the gap between two rows of scores
// if need be.
template <typename V>
FACET_INLINE void clear_rest(float* row, int64_t r, int64_t rows, int64_t keys,
                             const int32_t* visible) {
  const int64_t together = visible[std::min(r + kMostRows, rows) - 1];
  const int64_t end = std::min(keys, std::max<int64_t>(together, visible[r] + kMostRows - 1));
  for (int64_t j = visible[r]; j < end; j += kWidth<V>) at<V>(row + j) = V{};
}

template <typename V>
FACET_INLINE float largest(const float* row, int64_t n) {
  V max = at<V>(row);
  for (int64_t j = kWidth<V>; j < n; j += kWidth<V>) {
    const V x = at<V>(row + j);
    max = x > max ? x : max;
  }
  return reduce(max, [](float a, float b) { return a > b ? a : b; });
}

template <typename V>
FACET_INLINE void softmax_all(float* scores, int64_t rows, int64_t keys, const int32_t* visible,
                              const int32_t* hidden, float scale, float* max, float* sum,
                              float* factor) {
  for (int64_t r = 0; r < rows; ++r) {
    float* row = scores + r * kScoreStride;
    const int64_t n = visible[r];
    factor[r] = 1;
    if (hidden[r] < n) {
      std::fill_n(row, hidden[r], -std::numeric_limits<float>::infinity());
      for (int64_t j = n; j < padded(n); j += kWidth<V>)
        at<V>(row + j) = V{} - std::numeric_limits<float>::infinity();
      const float new_max = std::max(max[r], scale * largest<V>(row, padded(n)));
      V total = {};
      for (int64_t j = 0; j < padded(n); j += kWidth<V>) {
        V x = at<V>(row + j) * scale - new_max;
        exponentiate(x);
        at<V>(row + j) = x;
        total += x;
      }
      if (new_max != max[r]) factor[r] = std::exp(max[r] - new_max);
      sum[r] = sum[r] * factor[r] + reduce(total, [](float a, float b) { return a + b; });
      max[r] = new_max;
    }
    std::fill_n(row, hidden[r], 0.0f);
    clear_rest<V>(row, r, rows, keys, visible);
  }
}

template <typename V>
FACET_INLINE void gradient_all(float* scores, float* dscores, int64_t rows, int64_t keys,
                               const int32_t* visible, const int32_t* hidden, float scale,
                               const RowStatistics* statistics) {
  for (int64_t r = 0; r < rows; ++r) {
    float* p = scores + r * kScoreStride;
    float* dp = dscores + r * kScoreStride;
    const int64_t n = visible[r];
    const RowStatistics s = statistics[r];
    if (s.mean != 0) {
      std::fill_n(p, n, s.mean);
    } else {
      for (int64_t j = 0; j < n; j += kWidth<V>) {
        V x = at<V>(p + j) * scale - s.lse;
        exponentiate(x);
        at<V>(p + j) = x;
      }
    }
    for (int64_t j = 0; j < n; j += kWidth<V>)
      at<V>(dp + j) = scale * at<V>(p + j) * (at<V>(dp + j) - s.delta);
    std::fill_n(p, hidden[r], 0.0f);
    std::fill_n(dp, hidden[r], 0.0f);
    clear_rest<V>(p, r, rows, keys, visible);
    clear_rest<V>(dp, r, rows, keys, visible);
  }
}

// ---- rows in place

constexpr int kChains = 4;  // independent sums of 8 lanes, whichever vectors hold them

template <typename V, typename T>
FACET_INLINE float dot_row(const float* a, const T* b, int64_t n) {
  constexpr int kVectors = kChains * kWidth<Vector8> / kWidth<V>;
  constexpr int64_t kStep = kChains * kWidth<Vector8>;
  V sum[kVectors] = {};
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep)
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) {
      V x;
      load(x, b + i + c * kWidth<V>);
      sum[c] += at<V>(a + i + c * kWidth<V>) * x;
    }
  Vector8 chain[kChains];
#pragma GCC unroll 4
  for (int c = 0; c < kChains; ++c) {
    if constexpr (kWidth<V> == kWidth<Vector8>)
      chain[c] = sum[c];
    else if (c % 2 == 0)
      chain[c] = __builtin_shufflevector(sum[c / 2], sum[c / 2], 0, 1, 2, 3, 4, 5, 6, 7);
    else
      chain[c] = __builtin_shufflevector(sum[c / 2], sum[c / 2], 8, 9, 10, 11, 12, 13, 14, 15);
  }
  for (; i + kWidth<Vector8> <= n; i += kWidth<Vector8>) {
    Vector8 x;
    load(x, b + i);
    chain[0] += at<Vector8>(a + i) * x;
  }
  const Vector8 total = (chain[0] + chain[1]) + (chain[2] + chain[3]);
  float result = reduce(total, [](float x, float y) { return x + y; });
  for (; i < n; ++i) result += a[i] * widened(b[i]);
  return result;
}

template <typename V, typename T>
FACET_INLINE void dot_all(float* products, const float* a, const T* const* rows, int64_t count,
                          int64_t n) {
  for (int64_t j = 0; j < count; ++j) products[j] = dot_row<V>(a, rows[j], n);
}

// N vectors of y, kept in registers over all rows.
template <typename V, int N, typename T>
FACET_INLINE void add_block(float* y, const T* const* rows, const float* factors, int64_t count,
                            int64_t at_column) {
  V sum[N];
#pragma GCC unroll 4
  for (int c = 0; c < N; ++c) sum[c] = at<V>(y + at_column + c * kWidth<V>);
  for (int64_t j = 0; j < count; ++j) {
    const T* row = rows[j] + at_column;
#pragma GCC unroll 4
    for (int c = 0; c < N; ++c) {
      V x;
      load(x, row + c * kWidth<V>);
      sum[c] += factors[j] * x;
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < N; ++c) at<V>(y + at_column + c * kWidth<V>) = sum[c];
}

template <typename V, typename T>
FACET_INLINE void add_all(float* y, const T* const* rows, const float* factors, int64_t count,
                          int64_t n) {
  int64_t i = 0;
  for (; i + 4 * kWidth<V> <= n; i += 4 * kWidth<V>) add_block<V, 4>(y, rows, factors, count, i);
  for (; i + kWidth<V> <= n; i += kWidth<V>) add_block<V, 1>(y, rows, factors, count, i);
  for (; i < n; ++i)
    for (int64_t j = 0; j < count; ++j)
      y[i] = __builtin_fmaf(factors[j], widened(rows[j][i]), y[i]);
}

// ---- the two instruction sets

#if defined(FACET_AVX512)
FACET_AVX512 void multiply_avx512(const Product& p) { multiply_all<Vector16>(p); }
FACET_AVX512 void softmax_avx512(float* scores, int64_t rows, int64_t keys, const int32_t* visible,
                                 const int32_t* hidden, float scale, float* max, float* sum,
                                 float* factor) {
  softmax_all<Vector16>(scores, rows, keys, visible, hidden, scale, max, sum, factor);
}
FACET_AVX512 void gradient_avx512(float* scores, float* dscores, int64_t rows, int64_t keys,
                                  const int32_t* visible, const int32_t* hidden, float scale,
                                  const RowStatistics* statistics) {
  gradient_all<Vector16>(scores, dscores, rows, keys, visible, hidden, scale, statistics);
}
template <typename T>
FACET_AVX512 void dot_rows_avx512(float* products, const float* a, const T* const* rows,
                                  int64_t count, int64_t n) {
  dot_all<Vector16>(products, a, rows, count, n);
}
template <typename T>
FACET_AVX512 void add_rows_avx512(float* y, const T* const* rows, const float* factors,
                                  int64_t count, int64_t n) {
  add_all<Vector16>(y, rows, factors, count, n);
}
#else
template <typename T>
constexpr auto dot_rows_avx512 = dot_all<Vector8, T>;
template <typename T>
constexpr auto add_rows_avx512 = add_all<Vector8, T>;
constexpr auto multiply_avx512 = multiply_all<Vector8>;
constexpr auto softmax_avx512 = softmax_all<Vector8>;
constexpr auto gradient_avx512 = gradient_all<Vector8>;
#endif

// ---- gathering

// to[column][lane] of 8 columns and 8 rows; `to` has kLanes lanes.
FACET_INLINE void transpose_8x8(float* to, const float* const* rows, int64_t column) {
  Vector8 x[8], y[8];
  for (int i = 0; i < 8; ++i) x[i] = at<Vector8>(rows[i] + column);
  for (int i = 0; i < 8; i += 2) {
    y[i] = __builtin_shufflevector(x[i], x[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    y[i + 1] = __builtin_shufflevector(x[i], x[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int j = 0; j < 2; ++j) {
      const Vector8 low = y[i + j], high = y[i + j + 2];
      x[i + 2 * j] = __builtin_shufflevector(low, high, 0, 1, 8, 9, 4, 5, 12, 13);
      x[i + 2 * j + 1] = __builtin_shufflevector(low, high, 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
  for (int i = 0; i < 4; ++i) {
    at<Vector8>(to + i * kLanes) =
        __builtin_shufflevector(x[i], x[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    at<Vector8>(to + (i + 4) * kLanes) =
        __builtin_shufflevector(x[i], x[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

}  // namespace

void multiply(const Product& product) {
  kHasAvx512 ? multiply_avx512(product) : multiply_all<Vector8>(product);
}

void softmax_step(float* scores, int64_t rows, int64_t keys, const int32_t* visible,
                  const int32_t* hidden, float scale, float* max, float* sum, float* factor) {
  if (kHasAvx512)
    softmax_avx512(scores, rows, keys, visible, hidden, scale, max, sum, factor);
  else
    softmax_all<Vector8>(scores, rows, keys, visible, hidden, scale, max, sum, factor);
}

void softmax_gradient(float* scores, float* dscores, int64_t rows, int64_t keys,
                      const int32_t* visible, const int32_t* hidden, float scale,
                      const RowStatistics* statistics) {
  if (kHasAvx512)
    gradient_avx512(scores, dscores, rows, keys, visible, hidden, scale, statistics);
  else
    gradient_all<Vector8>(scores, dscores, rows, keys, visible, hidden, scale, statistics);
}

void gather(float* to, const HeadRows& from) {
  const int64_t width = padded(from.width);
  from.for_rows(0, from.count, [&](int64_t i, const float* row) {
    std::memcpy(to + i * width, row, static_cast<size_t>(from.width) * sizeof(float));
    std::fill(to + i * width + from.width, to + (i + 1) * width, 0.0f);
  });
}

void gather_transposed(float* to, const HeadRows& from) {
  for (int64_t begin = 0; begin < from.count; begin += kLanes, to += from.width * kLanes) {
    const int64_t lanes = std::min(kLanes, from.count - begin);
    const int64_t full_lanes = lanes / 8 * 8, full_columns = from.width / 8 * 8;
    const float* rows[kLanes];
    from.for_rows(begin, begin + lanes,
                  [&](int64_t i, const float* row) { rows[i - begin] = row; });
    for (int64_t lane = 0; lane < full_lanes; lane += 8)
      for (int64_t column = 0; column < full_columns; column += 8)
        transpose_8x8(to + column * kLanes + lane, rows + lane, column);
    for (int64_t column = 0; column < from.width; ++column) {
      const int64_t done = column < full_columns ? full_lanes : 0;
      for (int64_t lane = done; lane < lanes; ++lane)
        to[column * kLanes + lane] = rows[lane][column];
      std::fill(to + column * kLanes + lanes, to + (column + 1) * kLanes, 0.0f);
    }
  }
}

float dot(const float* a, const float* b, int64_t n) { return dot_row<Vector8>(a, b, n); }

template <typename T>
void dot_rows(float* products, const float* a, const T* const* rows, int64_t count, int64_t n) {
  kHasAvx512 ? dot_rows_avx512<T>(products, a, rows, count, n)
             : dot_all<Vector8>(products, a, rows, count, n);
}

template <typename T>
void add_scaled_rows(float* y, const T* const* rows, const float* factors, int64_t count,
                     int64_t n) {
  kHasAvx512 ? add_rows_avx512<T>(y, rows, factors, count, n)
             : add_all<Vector8>(y, rows, factors, count, n);
}

template void dot_rows(float*, const float*, const float* const*, int64_t, int64_t);
template void dot_rows(float*, const float*, const Bf16* const*, int64_t, int64_t);
template void dot_rows(float*, const float*, const F16* const*, int64_t, int64_t);
template void add_scaled_rows(float*, const float* const*, const float*, int64_t, int64_t);
template void add_scaled_rows(float*, const Bf16* const*, const float*, int64_t, int64_t);
template void add_scaled_rows(float*, const F16* const*, const float*, int64_t, int64_t);

void add_scaled(float* y, const float* x, int64_t n, float factor) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

}  // namespace facet::attention
