#include "base/half.h"
#include "kernels/cpu/backend.h"
#include "tests/ops/op_test.h"

namespace facet::op_test {
namespace {

template <typename T>
struct State {
  std::vector<T> param, exp_avg, exp_avg_sq;
};

// The formulas of docs/computes.md, one by one.
template <typename T>
void naive_adamw(State<T>& s, const std::vector<T>& grad, const AdamWStep& step) {
  const double t = static_cast<double>(step.t);
  const T rate = T(step.learning_rate * std::sqrt(1 - std::pow(step.beta2, t)) /
                   (1 - std::pow(step.beta1, t)));
  for (size_t i = 0; i < grad.size(); ++i) {
    const T g = grad[i] * T(step.gradient_scale);
    s.exp_avg[i] = T(step.beta1) * s.exp_avg[i] + T(1 - step.beta1) * g;
    s.exp_avg_sq[i] = T(step.beta2) * s.exp_avg_sq[i] + T(1 - step.beta2) * g * g;
    s.param[i] -= rate * s.exp_avg[i] / (std::sqrt(s.exp_avg_sq[i]) + T(step.eps));
    s.param[i] -= T(step.learning_rate * step.weight_decay) * s.param[i];
  }
}

class AdamW : public testing::TestWithParam<int64_t> {};

TEST_P(AdamW, FollowsTheFormulaOverSeveralSteps) {
  const int64_t n = GetParam();
  const Values start = random_values(n, "param"), zero(static_cast<size_t>(n), 0);
  State<double> exact{start, zero, zero};
  State<float> naive{cast<float>(start), cast<float>(zero), cast<float>(zero)};
  Matrix param(1, n, start), exp_avg(1, n, zero), exp_avg_sq(1, n, zero);
  CpuBackend ops(2);
  AdamWStep step;
  step.learning_rate = 1e-2;
  step.weight_decay = 0.1;
  step.gradient_scale = 0.37f;
  for (step.t = 1; step.t <= 5; ++step.t) {
    const Values grad = random_values(n, "grad" + std::to_string(step.t));
    Matrix grad_m(1, n, grad);
    ops.adamw_step(param.vector(), exp_avg.vector(), exp_avg_sq.vector(), Tensor(), grad_m.vector(),
                   step);
    naive_adamw(exact, grad, step);
    naive_adamw(naive, cast<float>(grad), step);
    EXPECT_EQ(grad_m.values(), grad) << "the gradient is only read";
  }
  expect_as_good_as(param.values(), exact.param, naive.param);
  expect_as_good_as(exp_avg.values(), exact.exp_avg, naive.exp_avg);
  expect_as_good_as(exp_avg_sq.values(), exact.exp_avg_sq, naive.exp_avg_sq);
}

INSTANTIATE_TEST_SUITE_P(Lengths, AdamW, testing::Values(1, 7, 97, 70001));

TEST_P(AdamW, WritesARoundedCopyAlongTheWay) {
  const int64_t n = GetParam();
  const Values start = random_values(n, "param"), grad = random_values(n, "grad");
  const Values zero(static_cast<size_t>(n), 0);
  CpuBackend ops(2);
  AdamWStep step;
  step.learning_rate = 1e-2;
  step.weight_decay = 0.1;
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    Matrix param(1, n, start), exp_avg(1, n, zero), exp_avg_sq(1, n, zero), grad_m(1, n, grad);
    Matrix alone(1, n, start), avg_alone(1, n, zero), sq_alone(1, n, zero);
    std::vector<uint16_t> copy(static_cast<size_t>(n + 1), 0xabcd);
    ops.adamw_step(param.vector(), exp_avg.vector(), exp_avg_sq.vector(),
                   Tensor(copy.data(), {n}, dtype), grad_m.vector(), step);
    ops.adamw_step(alone.vector(), avg_alone.vector(), sq_alone.vector(), Tensor(), grad_m.vector(),
                   step);
    EXPECT_TRUE(param.same_bits(alone));
    EXPECT_TRUE(exp_avg.same_bits(avg_alone));
    EXPECT_TRUE(exp_avg_sq.same_bits(sq_alone));
    for (int64_t i = 0; i < n; ++i)
      ASSERT_EQ(copy[static_cast<size_t>(i)], round_to_16_bits(param.at(0, i), dtype)) << i;
    EXPECT_EQ(copy.back(), 0xabcd);
  }
}

// Decay takes lr * wd of the parameter that the step has already moved.
TEST(AdamWOp, DecayActsAfterTheStep) {
  CpuBackend ops(1);
  Matrix param(1, 1, Values{1}), exp_avg(1, 1, Values{0}), exp_avg_sq(1, 1, Values{0}),
      grad(1, 1, Values{1});
  AdamWStep step;
  step.learning_rate = 0.5;
  step.weight_decay = 0.5;
  ops.adamw_step(param.vector(), exp_avg.vector(), exp_avg_sq.vector(), Tensor(), grad.vector(),
                 step);
  // m = 0.1, sqrt(v) = sqrt(0.05): p = 1 - 0.5 * sqrt(0.05) / 0.1 * 0.1 / (sqrt(0.05) + 1e-6).
  const double moved = 1 - 0.5 * std::sqrt(0.05) / (std::sqrt(0.05) + 1e-6);
  EXPECT_NEAR(param.at(0, 0), moved * 0.75, 1e-7);
}

TEST(AdamWOp, NothingIsLegal) {
  CpuBackend ops(2);
  const Tensor none(nullptr, {0}, DType::kF32);
  ops.adamw_step(none, none, none, Tensor(), none, AdamWStep());
  EXPECT_EQ(ops.gradient_statistics(none).sum_squares, 0);
  EXPECT_EQ(ops.counts().calls, 2);
}

}  // namespace
}  // namespace facet::op_test
