#include "kernels/cpu/backend.h"
#include "tests/ops/op_test.h"

namespace facet::op_test {
namespace {

template <typename T>
T sigmoid(T x) {
  return 1 / (1 + std::exp(-x));
}

template <typename T>
std::vector<T> naive_swiglu(const std::vector<T>& gate_up, int64_t rows, int64_t cols) {
  std::vector<T> act;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      const T gate = gate_up[static_cast<size_t>(r * 2 * cols + c)];
      act.push_back(gate * sigmoid(gate) * gate_up[static_cast<size_t>((2 * r + 1) * cols + c)]);
    }
  return act;
}

template <typename T>
std::vector<T> naive_gelu(std::vector<T> x, Activation activation) {
  const auto gate = [&](T value) {
    if (activation == Activation::kQuickGelu) return sigmoid(T(1.702) * value);
    if (activation == Activation::kGelu) return (1 + std::erf(value / std::sqrt(T(2)))) / 2;
    const T cubic = value + T(0.044715) * value * value * value;
    return (1 + std::tanh(std::sqrt(T(M_2_PI)) * cubic)) / 2;
  };
  for (T& value : x) value *= gate(value);
  return x;
}

struct Shape {
  int64_t rows, cols;
};

class Activations : public testing::TestWithParam<Shape> {
 protected:
  const int64_t n_ = GetParam().rows, f_ = GetParam().cols;
  CpuBackend ops_{2};
};

TEST_P(Activations, SwigluForwardAndBackward) {
  Values gate_up = random_values(n_ * 2 * f_, "gate_up", 3);
  const Values dact = random_values(n_ * f_, "dact");
  Matrix x(n_, 2 * f_, gate_up, 1), act(n_, f_, 3), d(n_, f_, dact, 2), dx(n_, 2 * f_, 5);
  ops_.swiglu_forward(act.tensor(), x.tensor());
  expect_as_good_as(act.values(), naive_swiglu(gate_up, n_, f_),
                    naive_swiglu(cast<float>(gate_up), n_, f_));
  ops_.swiglu_backward(dx.tensor(), Tensor(), d.tensor(), x.tensor());
  // Element by element, so the gradient of the sum of squares of rows is not needed: perturb all
  // gates, then all ups, at once.
  Values expected(gate_up.size());
  const double step = 1e-6;
  for (int64_t half = 0; half < 2; ++half) {
    Values above = gate_up, below = gate_up;
    for (int64_t i = 0; i < n_ * 2 * f_; ++i)
      if (i / f_ % 2 == half)
        above[static_cast<size_t>(i)] += step, below[static_cast<size_t>(i)] -= step;
    const Values up = naive_swiglu(above, n_, f_), down = naive_swiglu(below, n_, f_);
    for (int64_t i = 0; i < n_ * f_; ++i)
      expected[static_cast<size_t>((2 * (i / f_) + half) * f_ + i % f_)] =
          dact[static_cast<size_t>(i)] *
          (up[static_cast<size_t>(i)] - down[static_cast<size_t>(i)]) / (2 * step);
  }
  EXPECT_LE(relative_error(dx.values(), expected), kGradientError);
}

TEST_P(Activations, SwiglusBackwardHasTheOutputAgain) {
  Matrix x(n_, 2 * f_, random_values(n_ * 2 * f_, "gate_up", 3), 1), act(n_, f_), again(n_, f_, 3),
      d(n_, f_, random_values(n_ * f_, "dact"), 2), without(n_, 2 * f_), dx(n_, 2 * f_, 5);
  ops_.swiglu_forward(act.tensor(), x.tensor());
  ops_.swiglu_backward(without.tensor(), Tensor(), d.tensor(), x.tensor());
  ops_.swiglu_backward(dx.tensor(), again.tensor(), d.tensor(), x.tensor());
  EXPECT_TRUE(dx.same_bits(without));
  EXPECT_TRUE(again.same_bits(act));
  ops_.swiglu_backward(dx.tensor(), d.tensor(), d.tensor(), x.tensor());
  EXPECT_TRUE(dx.same_bits(without)) << "in place";
  EXPECT_TRUE(d.same_bits(act)) << "in place";
}

TEST_P(Activations, GeluForwardAndBackward) {
  for (const Activation activation :
       {Activation::kQuickGelu, Activation::kGelu, Activation::kGeluTanh}) {
    const Values x = random_values(n_ * f_, "x", 2), dy = random_values(n_ * f_, "dy");
    Matrix x_m(n_, f_, x, 1), y(n_, f_, 2), dy_m(n_, f_, dy, 3), dx(n_, f_);
    ops_.gelu_forward(y.tensor(), x_m.tensor(), activation);
    expect_as_good_as(y.values(), naive_gelu(x, activation),
                      naive_gelu(cast<float>(x), activation));
    const double step = 1e-6;
    Values above = x, below = x;
    for (size_t i = 0; i < x.size(); ++i) above[i] += step, below[i] -= step;
    above = naive_gelu(above, activation), below = naive_gelu(below, activation);
    Values expected(x.size());
    for (size_t i = 0; i < x.size(); ++i) expected[i] = dy[i] * (above[i] - below[i]) / (2 * step);
    ops_.gelu_backward(dx.tensor(), dy_m.tensor(), x_m.tensor(), activation);
    EXPECT_LE(relative_error(dx.values(), expected), kGradientError);
    ops_.gelu_backward(dy_m.tensor(), dy_m.tensor(), x_m.tensor(), activation);
    EXPECT_TRUE(dy_m.same_bits(dx)) << "in place";
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Activations,
                         testing::Values(Shape{1, 1}, Shape{0, 8}, Shape{7, 97}, Shape{97, 257}),
                         [](const auto& info) {
                           return std::to_string(info.param.rows) + "x" +
                                  std::to_string(info.param.cols);
                         });

TEST(Swiglu, LargeGatesStayFinite) {
  CpuBackend ops(1);
  Matrix x(1, 4, {-200, 200, 2, 3}), act(1, 2), dact(1, 2, {1, 1}), dx(1, 4);
  ops.swiglu_forward(act.tensor(), x.tensor());
  EXPECT_EQ(act.values(), (Values{0, 600}));
  ops.swiglu_backward(dx.tensor(), Tensor(), dact.tensor(), x.tensor());
  EXPECT_EQ(dx.values(), (Values{0, 3, 0, 200}));
}

}  // namespace
}  // namespace facet::op_test
