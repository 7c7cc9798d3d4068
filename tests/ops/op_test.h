// What the tests of the operators share: matrices with guard bands, random values that fp32 holds
// exactly, errors by norm, and central differences in fp64.
//
// The pattern of a test: `Values` (dense fp64) are the truth, a naive function template is computed
// in double (expected) and in float (what plain fp32 costs), and the op must not be worse than a
// small multiple of the latter.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "device/tensor.h"

namespace facet::op_test {

using Values = std::vector<double>;  // a matrix, dense and row-major

// n standard normal values, rounded to fp32. Equal names give equal values.
inline Values random_values(int64_t n, std::string_view name, double scale = 1) {
  RandomStream stream(1, "op_test", hash_name(name), static_cast<uint64_t>(n));
  Values values(static_cast<size_t>(n));
  for (double& value : values) value = static_cast<float>(scale * stream.normal());
  return values;
}

template <typename T, typename From>
std::vector<T> cast(const std::vector<From>& values) {
  return std::vector<T>(values.begin(), values.end());
}

// An fp32 matrix with its own memory, initially NaN. Before it, after it and between its rows (if
// gap > 0) are guards: NaNs with a payload, so that reading one poisons the result, and the
// destructor sees when one was written.
class Matrix {
 public:
  Matrix(int64_t rows, int64_t cols, int64_t gap = 0)
      : rows_(rows),
        cols_(cols),
        stride_(cols + gap),
        memory_(static_cast<size_t>(2 * kBand + rows * stride_), guard()) {
    set(Values(static_cast<size_t>(rows * cols), std::numeric_limits<double>::quiet_NaN()));
  }
  Matrix(int64_t rows, int64_t cols, const Values& values, int64_t gap = 0)
      : Matrix(rows, cols, gap) {
    set(values);
  }
  ~Matrix() {
    EXPECT_TRUE(guards_intact()) << "written outside a (" << rows_ << ", " << cols_ << ")";
  }
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;

  Tensor tensor() {
    // The stride of a Tensor comes from a column block of a wider one.
    Tensor wide(memory_.data() + kBand, {rows_, stride_}, DType::kF32);
    return stride_ == cols_ ? wide : wide.column_block(0, cols_);
  }
  // As a vector of one dimension; only for matrices of one row without a gap.
  Tensor vector() { return tensor().view({rows_ * cols_}); }

  float& at(int64_t row, int64_t col) {
    return memory_[static_cast<size_t>(kBand + row * stride_ + col)];
  }
  float at(int64_t row, int64_t col) const {
    return memory_[static_cast<size_t>(kBand + row * stride_ + col)];
  }
  void set(const Values& values) {
    ASSERT(values.size() == static_cast<size_t>(rows_ * cols_), "{} values for ({}, {})",
           values.size(), rows_, cols_);
    for (int64_t i = 0; i < rows_ * cols_; ++i)
      at(i / cols_, i % cols_) = static_cast<float>(values[static_cast<size_t>(i)]);
  }
  Values values() const {
    Values result;
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t c = 0; c < cols_; ++c) result.push_back(at(r, c));
    return result;
  }
  bool same_bits(const Matrix& other) const {
    for (int64_t r = 0; r < rows_; ++r)
      if (std::memcmp(&memory_[static_cast<size_t>(kBand + r * stride_)],
                      &other.memory_[static_cast<size_t>(kBand + r * other.stride_)],
                      static_cast<size_t>(cols_) * sizeof(float)) != 0)
        return false;
    return rows_ == other.rows_ && cols_ == other.cols_;
  }
  bool guards_intact() const {
    const float expected = guard();
    for (int64_t i = 0; i < static_cast<int64_t>(memory_.size()); ++i) {
      const int64_t offset = i - kBand;
      const bool inside = offset >= 0 && offset < rows_ * stride_ && offset % stride_ < cols_;
      if (!inside && std::memcmp(&memory_[static_cast<size_t>(i)], &expected, sizeof(float)) != 0)
        return false;
    }
    return true;
  }

 private:
  static constexpr int64_t kBand = 32;
  static float guard() {
    const uint32_t bits = 0x7fc5a5a5;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  int64_t rows_, cols_, stride_;
  std::vector<float> memory_;
};

// |actual - expected| / |expected| by Euclidean norms; absolute where nothing is expected; infinite
// where anything is not a number.
template <typename Actual>
double relative_error(const std::vector<Actual>& actual, const Values& expected) {
  if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double d = static_cast<double>(actual[i]) - expected[i];
    difference += d * d;
    norm += expected[i] * expected[i];
  }
  if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
  return norm == 0 ? std::sqrt(difference) : std::sqrt(difference / norm);
}

constexpr double kHalfUlp = 6e-8;  // an output is rounded once, whatever is computed

// The op's error is at most `factor` times that of naive fp32 arithmetic.
inline void expect_as_good_as(const Values& actual, const Values& expected,
                              const std::vector<float>& naive_fp32, double factor = 2) {
  EXPECT_LE(relative_error(actual, expected),
            factor * relative_error(naive_fp32, expected) + kHalfUlp);
}

// Of a gradient against central differences: the worst that was measured here is 3.0e-7 (a few
// roundings of fp32), three times that is allowed.
constexpr double kGradientError = 9e-7;

inline double dot(const Values& a, const Values& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// C (m,n) = A (m,k) B (k,n) as written down, in T.
template <typename T>
std::vector<T> multiply(const std::vector<T>& a, const std::vector<T>& b, int64_t m, int64_t k,
                        int64_t n) {
  std::vector<T> c(static_cast<size_t>(m * n), T(0));
  for (int64_t row = 0; row < m; ++row)
    for (int64_t i = 0; i < k; ++i)
      for (int64_t col = 0; col < n; ++col)
        c[static_cast<size_t>(row * n + col)] +=
            a[static_cast<size_t>(row * k + i)] * b[static_cast<size_t>(i * n + col)];
  return c;
}

template <typename T>
std::vector<T> transpose(const std::vector<T>& a, int64_t rows, int64_t cols) {
  std::vector<T> result(a.size());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c)
      result[static_cast<size_t>(c * rows + r)] = a[static_cast<size_t>(r * cols + c)];
  return result;
}

template <typename T>
std::vector<T> sum_of(std::vector<T> a, const std::vector<T>& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

// d functional / dx for every element of x, by central differences in fp64: exact to about 1e-9 of
// its norm for smooth functions of values around 1.
inline Values finite_differences(Values& x, const std::function<double()>& functional,
                                 double step = 1e-5) {
  Values gradient(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double here = x[i];
    x[i] = here + step;
    const double above = functional();
    x[i] = here - step;
    gradient[i] = (above - functional()) / (2 * step);
    x[i] = here;
  }
  return gradient;
}

// The derivative of the functional along `direction`, for the adjoint identity at larger sizes.
inline double directional_derivative(Values& x, const Values& direction,
                                     const std::function<double()>& functional,
                                     double step = 1e-5) {
  const Values here = x;
  for (size_t i = 0; i < x.size(); ++i) x[i] = here[i] + step * direction[i];
  const double above = functional();
  for (size_t i = 0; i < x.size(); ++i) x[i] = here[i] - step * direction[i];
  const double below = functional();
  x = here;
  return (above - below) / (2 * step);
}

}  // namespace facet::op_test
