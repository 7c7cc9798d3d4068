#include "kernels/cpu/backend.h"
#include "tests/ops/op_test.h"

namespace facet::op_test {
namespace {

struct Shape {
  int64_t rows, inputs, outputs;
};

class Linear : public testing::TestWithParam<Shape> {
 protected:
  const int64_t n_ = GetParam().rows, i_ = GetParam().inputs, o_ = GetParam().outputs;
  const Values x_ = random_values(n_ * i_, "x"), weight_ = random_values(o_ * i_, "weight"),
               bias_ = random_values(o_, "bias"), residual_ = random_values(n_ * o_, "residual"),
               dy_ = random_values(n_ * o_, "dy");
  CpuBackend ops_{2};

  template <typename T>
  std::vector<T> product() const {
    return multiply(cast<T>(x_), transpose(cast<T>(weight_), o_, i_), n_, i_, o_);
  }
  template <typename T>
  std::vector<T> repeated_bias() const {
    std::vector<T> rows;
    for (int64_t r = 0; r < n_; ++r) rows.insert(rows.end(), bias_.begin(), bias_.end());
    return rows;
  }
};

TEST_P(Linear, ForwardWithEveryChoiceOfBiasAndResidual) {
  Matrix x(n_, i_, x_, 3), weight(o_, i_, weight_, 1), bias(1, o_, bias_);
  for (const bool has_bias : {false, true})
    for (const bool has_residual : {false, true}) {
      Values expected = product<double>();
      std::vector<float> naive = product<float>();
      if (has_bias) {
        expected = sum_of(expected, repeated_bias<double>());
        naive = sum_of(naive, repeated_bias<float>());
      }
      if (has_residual) {
        expected = sum_of(expected, residual_);
        naive = sum_of(naive, cast<float>(residual_));
      }
      Matrix y(n_, o_, 5), residual(n_, o_, residual_, 2);
      ops_.linear_forward(y.tensor(), x.tensor(), weight.tensor(),
                          has_bias ? bias.vector() : Tensor(),
                          has_residual ? residual.tensor() : Tensor());
      expect_as_good_as(y.values(), expected, naive);
    }
}

TEST_P(Linear, TheResidualMayBeTheOutput) {
  Matrix x(n_, i_, x_), weight(o_, i_, weight_), bias(1, o_, bias_), y(n_, o_, residual_, 3);
  ops_.linear_forward(y.tensor(), x.tensor(), weight.tensor(), bias.vector(), y.tensor());
  expect_as_good_as(
      y.values(), sum_of(sum_of(product<double>(), repeated_bias<double>()), residual_),
      sum_of(sum_of(product<float>(), repeated_bias<float>()), cast<float>(residual_)));
}

TEST_P(Linear, BackwardOfTheInputOverwritesOrAccumulates) {
  const Values expected = multiply(dy_, weight_, n_, o_, i_);
  const std::vector<float> naive = multiply(cast<float>(dy_), cast<float>(weight_), n_, o_, i_);
  Matrix dy(n_, o_, dy_, 1), weight(o_, i_, weight_), dx(n_, i_, 4), sum(n_, i_, x_, 4);
  ops_.linear_backward_input(dx.tensor(), dy.tensor(), weight.tensor());
  expect_as_good_as(dx.values(), expected, naive, 3);
  ops_.linear_backward_input_accumulate(sum.tensor(), dy.tensor(), weight.tensor());
  expect_as_good_as(sum.values(), sum_of(expected, x_), sum_of(naive, cast<float>(x_)), 3);
}

TEST_P(Linear, BackwardOfTheWeightAccumulates) {
  const Values expected = multiply(transpose(dy_, n_, o_), x_, o_, n_, i_);
  const std::vector<float> naive =
      multiply(transpose(cast<float>(dy_), n_, o_), cast<float>(x_), o_, n_, i_);
  const Values ones(static_cast<size_t>(n_), 1);
  const Values dbias_expected = multiply(ones, dy_, 1, n_, o_);
  const std::vector<float> dbias_naive = multiply(cast<float>(ones), cast<float>(dy_), 1, n_, o_);
  Matrix dy(n_, o_, dy_, 2), x(n_, i_, x_, 3), dweight(o_, i_, weight_), dbias(1, o_, bias_);
  ops_.linear_backward_weight(dweight.tensor(), dbias.vector(), dy.tensor(), x.tensor());
  expect_as_good_as(dweight.values(), sum_of(expected, weight_),
                    sum_of(naive, cast<float>(weight_)), 3);
  expect_as_good_as(dbias.values(), sum_of(dbias_expected, bias_),
                    sum_of(dbias_naive, cast<float>(bias_)), 3);

  Matrix untouched(o_, i_, weight_), alone(1, o_, bias_);
  ops_.linear_backward_weight(Tensor(), alone.vector(), dy.tensor(), x.tensor());
  EXPECT_TRUE(alone.same_bits(dbias));
  ops_.linear_backward_weight(untouched.tensor(), Tensor(), dy.tensor(), x.tensor());
  EXPECT_TRUE(untouched.same_bits(dweight));
}

// <W' (x + v) - W' x, dy> = <v, dx>, and the same for the weight.
TEST_P(Linear, GradientsAreTheAdjointOfForward) {
  Matrix x(n_, i_, x_), weight(o_, i_, weight_), dy(n_, o_, dy_), y(n_, o_), dx(n_, i_);
  Matrix dweight(o_, i_, Values(weight_.size(), 0));
  ops_.linear_forward(y.tensor(), x.tensor(), weight.tensor(), Tensor(), Tensor());
  ops_.linear_backward_input(dx.tensor(), dy.tensor(), weight.tensor());
  ops_.linear_backward_weight(dweight.tensor(), Tensor(), dy.tensor(), x.tensor());
  const double forward = dot(y.values(), dy_);
  const double bound = 1e-6 * std::sqrt(dot(y.values(), y.values()) * dot(dy_, dy_));
  EXPECT_NEAR(dot(dx.values(), x_), forward, bound);
  EXPECT_NEAR(dot(dweight.values(), weight_), forward, bound);
}

TEST_P(Linear, TwoRunsGiveTheSameBits) {
  Matrix x(n_, i_, x_), weight(o_, i_, weight_), dy(n_, o_, dy_);
  Matrix y1(n_, o_), y2(n_, o_), dw1(o_, i_, weight_), dw2(o_, i_, weight_), db1(1, o_, bias_),
      db2(1, o_, bias_);
  ops_.linear_forward(y1.tensor(), x.tensor(), weight.tensor(), Tensor(), Tensor());
  ops_.linear_forward(y2.tensor(), x.tensor(), weight.tensor(), Tensor(), Tensor());
  EXPECT_TRUE(y1.same_bits(y2));
  ops_.linear_backward_weight(dw1.tensor(), db1.vector(), dy.tensor(), x.tensor());
  ops_.linear_backward_weight(dw2.tensor(), db2.vector(), dy.tensor(), x.tensor());
  EXPECT_TRUE(dw1.same_bits(dw2));
  EXPECT_TRUE(db1.same_bits(db2));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Linear,
                         testing::Values(Shape{1, 1, 1}, Shape{0, 7, 5}, Shape{1, 257, 97},
                                         Shape{7, 97, 257}, Shape{257, 97, 33}, Shape{600, 33, 65}),
                         [](const auto& info) {
                           return std::to_string(info.param.rows) + "x" +
                                  std::to_string(info.param.inputs) + "x" +
                                  std::to_string(info.param.outputs);
                         });

// Each thread computes columns of its own, as one thread computes all; with shapes for which oneDNN
// takes the same kernel.
TEST(LinearOp, InDecodingTwoThreadsGiveTheBitsOfOne) {
  for (const auto& [n, i, o] : {Shape{33, 300, 1000}, Shape{128, 257, 333}, Shape{600, 64, 128}}) {
    const Values x_values = random_values(n * i, "x"), w_values = random_values(o * i, "w"),
                 residual_values = random_values(n * o, "residual");
    Matrix x(n, i, x_values, 3), weight(o, i, w_values, 1), residual(n, o, residual_values, 2),
        whole(n, o), divided(n, o, 5);
    CpuBackend alone(1);
    alone.linear_forward(whole.tensor(), x.tensor(), weight.tensor(), Tensor(), residual.tensor());
    CpuBackend ops(2);
    const DecodingScope decodes(ops);
    ops.linear_forward(divided.tensor(), x.tensor(), weight.tensor(), Tensor(), residual.tensor());
    EXPECT_TRUE(divided.same_bits(whole)) << n << " x " << i << " x " << o;
  }
}

// The finite differences prove the formulas that the comparisons above take for granted.
TEST(LinearOp, GradientsMatchFiniteDifferences) {
  const int64_t n = 3, i = 5, o = 4;
  Values x = random_values(n * i, "x"), weight = random_values(o * i, "w"),
         bias = random_values(o, "b");
  const Values dy = random_values(n * o, "dy");
  const auto loss = [&] {
    Values y = multiply(x, transpose(weight, o, i), n, i, o);
    for (int64_t e = 0; e < n * o; ++e)
      y[static_cast<size_t>(e)] += bias[static_cast<size_t>(e % o)];
    return dot(y, dy);
  };
  CpuBackend ops(2);
  Matrix x_m(n, i, x), w_m(o, i, weight), dy_m(n, o, dy), dx(n, i), dw(o, i, Values(o * i, 0)),
      db(1, o, Values(o, 0));
  ops.linear_backward_input(dx.tensor(), dy_m.tensor(), w_m.tensor());
  ops.linear_backward_weight(dw.tensor(), db.vector(), dy_m.tensor(), x_m.tensor());
  EXPECT_LE(relative_error(dx.values(), finite_differences(x, loss)), kGradientError);
  EXPECT_LE(relative_error(dw.values(), finite_differences(weight, loss)), kGradientError);
  EXPECT_LE(relative_error(db.values(), finite_differences(bias, loss)), kGradientError);
}

}  // namespace
}  // namespace facet::op_test
