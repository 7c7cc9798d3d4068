// Products of few rows: beside the tests that every operator has, that the bits of a row are a
// matter of the row alone, and what 16-bit weights are.
#include <cmath>

#include "kernels/cpu/backend.h"
#include "ops/half_storage.h"
#include "ops/null_backend.h"
#include "tests/ops/half_operands.h"

namespace facet::op_test {
namespace {

struct Shape {
  int64_t rows, inputs, outputs;
};

// One element as kernels/cpu/linear_few_rows.cpp says that it is added up; `fused`: without
// rounding the products; those that fill no vector are always fused.
float sum_in_order(const std::vector<float>& x, const std::vector<float>& w, bool fused) {
  constexpr size_t kLanes = 16;
  float lanes[kLanes] = {};
  const size_t whole = x.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; ++i) {
    const volatile float product = x[i] * w[i];
    float& lane = lanes[i % kLanes];
    lane = fused ? std::fma(x[i], w[i], lane) : lane + product;
  }
  for (size_t width = kLanes / 2; width > 0; width /= 2)
    for (size_t i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  float total = lanes[0];
  for (size_t i = whole; i < x.size(); ++i) total = std::fma(x[i], w[i], total);
  return total;
}

std::vector<float> row_of(const Values& matrix, int64_t row, int64_t cols) {
  const auto begin = matrix.begin() + row * cols;
  return {begin, begin + cols};
}

class LinearOfFewRows : public testing::TestWithParam<Shape> {
 protected:
  const int64_t n_ = GetParam().rows, i_ = GetParam().inputs, o_ = GetParam().outputs;
  const Values x_ = random_values(n_ * i_, "x"), weight_ = random_values(o_ * i_, "weight"),
               bias_ = random_values(o_, "bias"), residual_ = random_values(n_ * o_, "residual");
};

// So the bits are the same with 8 lanes and with 16. The compiler fuses from -O2 on.
TEST_P(LinearOfFewRows, AddsInTheOrderThatIsStated) {
  for (const int threads : {1, 2}) {
    CpuBackend ops(threads);
    Matrix x(n_, i_, x_, 3), weight(o_, i_, weight_, 1), bias(1, o_, bias_), y(n_, o_, 5),
        residual(n_, o_, residual_, 2);
    ops.linear_few_rows_forward(y.tensor(), x.tensor(), weight.tensor(), bias.vector(),
                                residual.tensor());
    const auto is_sum = [&](bool fused) {
      int64_t different = 0;
      for (int64_t r = 0; r < n_; ++r)
        for (int64_t o = 0; o < o_; ++o) {
          const float product = sum_in_order(row_of(x_, r, i_), row_of(weight_, o, i_), fused);
          const float biased = product + static_cast<float>(bias_[static_cast<size_t>(o)]);
          different += y.at(r, o) != biased + residual.at(r, o);
        }
      return different == 0;
    };
    EXPECT_TRUE(is_sum(true) || is_sum(false)) << threads << " threads";
  }
}

TEST_P(LinearOfFewRows, IsAsGoodAsPlainCode) {
  CpuBackend ops(2);
  Matrix x(n_, i_, x_), weight(o_, i_, weight_), y(n_, o_);
  ops.linear_few_rows_forward(y.tensor(), x.tensor(), weight.tensor(), Tensor(), Tensor());
  expect_as_good_as(y.values(), multiply(x_, transpose(weight_, o_, i_), n_, i_, o_),
                    multiply(cast<float>(x_), transpose(cast<float>(weight_), o_, i_), n_, i_, o_));
}

TEST_P(LinearOfFewRows, ARowIsTheSameAlone) {
  CpuBackend ops(2);
  Matrix x(n_, i_, x_), weight(o_, i_, weight_), together(n_, o_), alone(n_, o_);
  ops.linear_few_rows_forward(together.tensor(), x.tensor(), weight.tensor(), Tensor(), Tensor());
  for (int64_t r = 0; r < n_; ++r)
    ops.linear_few_rows_forward(alone.tensor().row_block(r, 1), x.tensor().row_block(r, 1),
                                weight.tensor(), Tensor(), Tensor());
  EXPECT_TRUE(alone.same_bits(together));
}

TEST_P(LinearOfFewRows, TheResidualMayBeTheOutput) {
  CpuBackend ops(2);
  Matrix x(n_, i_, x_), weight(o_, i_, weight_), y(n_, o_, residual_, 3), apart(n_, o_),
      residual(n_, o_, residual_);
  ops.linear_few_rows_forward(y.tensor(), x.tensor(), weight.tensor(), Tensor(), y.tensor());
  ops.linear_few_rows_forward(apart.tensor(), x.tensor(), weight.tensor(), Tensor(),
                              residual.tensor());
  EXPECT_TRUE(y.same_bits(apart));
}

// Widening is exact, so the bits are those of the widened weight.
TEST_P(LinearOfFewRows, WeightsIn16BitsAreReadAsTheyAre) {
  CpuBackend ops(2);
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    StoredMatrix stored(o_, i_, 3, dtype);
    stored.set(weight_);
    Matrix x(n_, i_, x_), widened(o_, i_, stored.values()), expected(n_, o_), y(n_, o_);
    ops.linear_few_rows_forward(expected.tensor(), x.tensor(), widened.tensor(), Tensor(),
                                Tensor());
    ops.linear_few_rows_forward(y.tensor(), x.tensor(), stored.tensor(), Tensor(), Tensor());
    EXPECT_TRUE(y.same_bits(expected)) << name_of(dtype);
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, LinearOfFewRows,
                         testing::Values(Shape{1, 1, 1}, Shape{1, 64, 48}, Shape{2, 15, 3},
                                         Shape{3, 17, 5}, Shape{4, 257, 33}, Shape{7, 96, 7},
                                         Shape{13, 1029, 130}, Shape{32, 48, 1030}));

TEST(FewRows, MoreAreRefused) {
  NullBackend ops;
  const int64_t rows = kFewRows + 1;
  std::vector<float> memory(static_cast<size_t>(rows * 4));
  const Tensor x(memory.data(), {rows, 4}, DType::kF32), weight(memory.data(), {4, 4}, DType::kF32);
  EXPECT_THROW(ops.linear_few_rows_forward(x, x, weight, Tensor(), Tensor()), Error);
}

// A weight, or a cache, that is read in 16 bits has no panel.
TEST(FewRows, PanelsAreForTheRowsAlone) {
  constexpr int64_t kInputs = 512, kOutputs = 256;
  NullBackend nothing;
  HalfStorage ops(nothing);
  StoredMatrix x(2, kInputs, 0, DType::kBF16), weight(kOutputs, kInputs, 0, DType::kBF16),
      y(2, kOutputs, 0, DType::kBF16);
  ops.linear_few_rows_forward(y.tensor(), x.tensor(), weight.tensor(), Tensor(), Tensor());
  EXPECT_EQ(ops.panel_bytes(), 2 * (kInputs + kOutputs) * 4);

  constexpr int64_t kKeys = 300, kWidth = 16;
  AttentionPlan whole, plan;
  make_causal_plan(whole, {0, kKeys});
  keep_queries(plan, whole, {kKeys - 1});
  HalfStorage attending(nothing);
  StoredMatrix q(1, kWidth, 0, DType::kBF16), k(kKeys, kWidth, 0, DType::kBF16),
      v(kKeys, kWidth, 0, DType::kBF16), out(1, kWidth, 0, DType::kBF16);
  Matrix lse(1, 1);
  attending.attention_forward(out.tensor(), lse.tensor().view({1, 1, 1}), Tensor(), q.tensor(),
                              k.tensor(), v.tensor(), plan, 1, 1, 1.0f);
  EXPECT_EQ(attending.panel_bytes(), 2 * kWidth * 4);
}

}  // namespace
}  // namespace facet::op_test
