#include "kernels/cpu/backend.h"
#include "tests/ops/op_test.h"

namespace facet::op_test {
namespace {

// (outputs, inputs), and (inputs, rank) times (rank, outputs).
struct Adapted {
  int64_t outputs, inputs, rank;
  float scale = 0.75f;
  Values weight = random_values(outputs * inputs, "weight"),
         right = random_values(inputs * rank, "right"),
         left = random_values(rank * outputs, "left");

  // In T throughout.
  template <typename T>
  std::vector<T> norms() const {
    const std::vector<T> w = cast<T>(weight), r = cast<T>(right), l = cast<T>(left);
    std::vector<T> norms;
    for (int64_t o = 0; o < outputs; ++o) {
      T sum = 0;
      for (int64_t i = 0; i < inputs; ++i) {
        T v = w[static_cast<size_t>(o * inputs + i)];
        for (int64_t k = 0; k < rank; ++k)
          v += T(scale) * r[static_cast<size_t>(i * rank + k)] *
               l[static_cast<size_t>(k * outputs + o)];
        sum += v * v;
      }
      norms.push_back(std::sqrt(sum));
    }
    return norms;
  }
  Values found(int threads) const {
    CpuBackend ops(threads);
    Matrix norm(1, outputs), w(outputs, inputs, weight, 3), r(inputs, rank, right, 1),
        l(rank, outputs, left, 2);
    ops.dora_row_norms(norm.vector(), w.tensor(), r.tensor(), l.tensor(), scale);
    return norm.values();
  }
};

class DoraNorms : public testing::TestWithParam<std::array<int64_t, 3>> {};

TEST_P(DoraNorms, AreThoseOfTheRowsOfTheSum) {
  const auto [outputs, inputs, rank] = GetParam();
  const Adapted adapted{outputs, inputs, rank};
  const Values found = adapted.found(2);
  expect_as_good_as(found, adapted.norms<double>(), adapted.norms<float>());
  EXPECT_EQ(found, adapted.found(1));
}

INSTANTIATE_TEST_SUITE_P(Shapes, DoraNorms,
                         testing::Values(std::array<int64_t, 3>{1, 1, 1},
                                         std::array<int64_t, 3>{17, 512, 8},
                                         std::array<int64_t, 3>{33, 1100, 3},
                                         std::array<int64_t, 3>{97, 257, 130}));

// Where LoRA takes nearly all of a row away, the three terms of its square would cancel.
TEST(DoraNorms, KeepTheirDigitsWhereLoraCancelsTheWeight) {
  Adapted adapted{3, 40, 2};
  const Values rest = random_values(3 * 40, "rest");
  for (int64_t o = 0; o < 3; ++o)
    for (int64_t i = 0; i < 40; ++i) {
      double product = 0;
      for (int64_t k = 0; k < 2; ++k)
        product += 0.75 * adapted.right[static_cast<size_t>(i * 2 + k)] *
                   adapted.left[static_cast<size_t>(k * 3 + o)];
      const auto at = static_cast<size_t>(o * 40 + i);
      adapted.weight[at] = static_cast<float>(1e-4 * rest[at] - product);
    }
  // Rounding of the weight and the product is 1e-7 of them, and so 1e-3 of the difference.
  EXPECT_LE(relative_error(adapted.found(1), adapted.norms<double>()), 1e-3);
}

constexpr int64_t kRows = 300, kCols = 65;

struct Scaled {
  Values z = random_values(kRows * kCols, "z"), magnitude = random_values(kCols, "magnitude"),
         norm = random_values(kCols, "norm"), bias = random_values(kCols, "bias"),
         residual = random_values(kRows * kCols, "residual"),
         dy = random_values(kRows * kCols, "dy");

  Scaled() {
    for (double& value : norm) value = static_cast<float>(1.5 + value);
    norm[3] = 0;
  }
  double factor(int64_t c) const {
    const auto at = static_cast<size_t>(c);
    return norm[at] > 0 ? magnitude[at] / norm[at] : 0;
  }
};

TEST(DoraOp, ForwardBringsColumnsToTheirMagnitudes) {
  const Scaled given;
  CpuBackend ops(2);
  Matrix y(kRows, kCols, given.residual, 3), z(kRows, kCols, given.z, 1),
      m(1, kCols, given.magnitude), norm(1, kCols, given.norm), bias(1, kCols, given.bias),
      bare(kRows, kCols);
  ops.dora_forward(bare.tensor(), z.tensor(), m.vector(), norm.vector(), Tensor(), Tensor());
  ops.dora_forward(y.tensor(), z.tensor(), m.vector(), norm.vector(), bias.vector(), y.tensor());
  Values expected(given.z.size()), added = given.residual;
  for (size_t i = 0; i < expected.size(); ++i) {
    const auto c = static_cast<int64_t>(i) % kCols;
    expected[i] = given.factor(c) * given.z[i];
    added[i] += expected[i] + given.bias[static_cast<size_t>(c)];
  }
  EXPECT_LE(relative_error(bare.values(), expected), 1e-7);
  EXPECT_LE(relative_error(y.values(), added), 1e-7);
}

TEST(DoraOp, BackwardTakesTheNormAsAConstant) {
  Scaled given;
  CpuBackend ops(2);
  const Values start = random_values(kCols, "start");
  Matrix dz(kRows, kCols, 2), dm(1, kCols, start), dy(kRows, kCols, given.dy, 1),
      z(kRows, kCols, given.z), m(1, kCols, given.magnitude), norm(1, kCols, given.norm);
  ops.dora_backward(dz.tensor(), dm.vector(), dy.tensor(), z.tensor(), m.vector(), norm.vector());
  const auto functional = [&] {
    double sum = 0;
    for (size_t i = 0; i < given.z.size(); ++i)
      sum += given.factor(static_cast<int64_t>(i) % kCols) * given.z[i] * given.dy[i];
    return sum;
  };
  Values expected_dz = given.dy;
  for (size_t i = 0; i < expected_dz.size(); ++i)
    expected_dz[i] *= given.factor(static_cast<int64_t>(i) % kCols);
  EXPECT_LE(relative_error(dz.values(), expected_dz), 1e-7);
  EXPECT_LE(
      relative_error(dm.values(), sum_of(finite_differences(given.magnitude, functional), start)),
      kGradientError);
  Matrix alone(kRows, kCols, 2);
  ops.dora_backward(alone.tensor(), Tensor(), dy.tensor(), z.tensor(), m.vector(), norm.vector());
  EXPECT_TRUE(alone.same_bits(dz));
}

}  // namespace
}  // namespace facet::op_test
