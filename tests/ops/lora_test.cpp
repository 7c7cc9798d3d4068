#include "kernels/cpu/backend.h"
#include "tests/ops/op_test.h"

namespace facet::op_test {
namespace {

// Both operators of backward. dx may be absent.
void backward(Backend& ops, const Tensor& dx, const Tensor& dy, const Tensor& x,
              const LoraPart& part, float scale) {
  ops.lora_backward_input_accumulate(dx, part.dleft, part.du, dy, part.u, part.right, part.left,
                                     scale);
  ops.lora_backward_right(x, {&part, 1});
}

struct Shape {
  int64_t rows, inputs, outputs, rank;
};

class Lora : public testing::TestWithParam<Shape> {
 protected:
  const int64_t n_ = GetParam().rows, i_ = GetParam().inputs, o_ = GetParam().outputs,
                r_ = GetParam().rank;
  static constexpr float kScale = 0.75f;
  const Values x_ = random_values(n_ * i_, "x"), right_ = random_values(i_ * r_, "right"),
               left_ = random_values(r_ * o_, "left"), y_ = random_values(n_ * o_, "y"),
               dy_ = random_values(n_ * o_, "dy"), dx_ = random_values(n_ * i_, "dx");
  CpuBackend ops_{2};

  template <typename T>
  std::vector<T> scaled(std::vector<T> values) const {
    for (T& value : values) value *= T(kScale);
    return values;
  }
};

TEST_P(Lora, ForwardAddsToTheOutput) {
  Matrix y(n_, o_, y_, 3), u(n_, r_), x(n_, i_, x_, 1), right(i_, r_, right_), left(r_, o_, left_);
  ops_.lora_forward_accumulate(y.tensor(), u.tensor(), x.tensor(), right.tensor(), left.tensor(),
                               kScale);
  const Values u_expected = multiply(x_, right_, n_, i_, r_);
  const auto u_naive = multiply(cast<float>(x_), cast<float>(right_), n_, i_, r_);
  expect_as_good_as(u.values(), u_expected, u_naive);
  expect_as_good_as(
      y.values(), sum_of(scaled(multiply(u_expected, left_, n_, r_, o_)), y_),
      sum_of(scaled(multiply(u_naive, cast<float>(left_), n_, r_, o_)), cast<float>(y_)));
}

// The product is linear in x, left and right one by one: <scale x R L, dy> = <x, dx> = <R, dR> =
// <L, dL>; together with finite differences below that is the whole gradient.
TEST_P(Lora, GradientsAreTheAdjointOfForwardAndAccumulate) {
  Matrix y(n_, o_, Values(y_.size(), 0)), u(n_, r_), x(n_, i_, x_, 2), right(i_, r_, right_),
      left(r_, o_, left_), dy(n_, o_, dy_, 1), du(n_, r_);
  Matrix dx(n_, i_, dx_), dright(i_, r_, right_), dleft(r_, o_, left_);
  ops_.lora_forward_accumulate(y.tensor(), u.tensor(), x.tensor(), right.tensor(), left.tensor(),
                               kScale);
  LoraPart part{.u = u.tensor(),
                .right = right.tensor(),
                .left = left.tensor(),
                .du = du.tensor(),
                .dright = dright.tensor(),
                .dleft = dleft.tensor()};
  backward(ops_, dx.tensor(), dy.tensor(), x.tensor(), part, kScale);
  const double forward = dot(y.values(), dy_);
  const double bound = 1e-6 * std::sqrt(dot(y.values(), y.values()) * dot(dy_, dy_)) +
                       1e-6 * (dot(dx_, dx_) + dot(right_, right_) + dot(left_, left_));
  EXPECT_NEAR(dot(dx.values(), x_), forward + dot(dx_, x_), bound);
  EXPECT_NEAR(dot(dright.values(), right_), forward + dot(right_, right_), bound);
  EXPECT_NEAR(dot(dleft.values(), left_), forward + dot(left_, left_), bound);

  Matrix dright2(i_, r_, right_), dleft2(r_, o_, left_);
  part.dright = dright2.tensor();
  part.dleft = dleft2.tensor();
  backward(ops_, Tensor(), dy.tensor(), x.tensor(), part, kScale);
  EXPECT_TRUE(dright2.same_bits(dright));
  EXPECT_TRUE(dleft2.same_bits(dleft));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Lora,
                         testing::Values(Shape{1, 1, 1, 1}, Shape{0, 7, 5, 2}, Shape{1, 257, 97, 8},
                                         Shape{97, 97, 33, 16}, Shape{300, 65, 257, 7}),
                         [](const auto& info) {
                           return std::to_string(info.param.rows) + "x" +
                                  std::to_string(info.param.inputs) + "x" +
                                  std::to_string(info.param.outputs) + "r" +
                                  std::to_string(info.param.rank);
                         });

TEST(LoraOp, GradientsMatchFiniteDifferences) {
  const int64_t n = 5, i = 7, o = 6, r = 3;
  const float scale = 1.5f;
  Values x = random_values(n * i, "x"), right = random_values(i * r, "right"),
         left = random_values(r * o, "left");
  const Values dy = random_values(n * o, "dy");
  const auto loss = [&] {
    return scale * dot(multiply(multiply(x, right, n, i, r), left, n, r, o), dy);
  };
  CpuBackend ops(2);
  Matrix y(n, o, Values(n * o, 0)), u(n, r), du(n, r), x_m(n, i, x), right_m(i, r, right),
      left_m(r, o, left), dy_m(n, o, dy), dx(n, i, Values(n * i, 0)),
      dright(i, r, Values(i * r, 0)), dleft(r, o, Values(r * o, 0));
  ops.lora_forward_accumulate(y.tensor(), u.tensor(), x_m.tensor(), right_m.tensor(),
                              left_m.tensor(), scale);
  backward(ops, dx.tensor(), dy_m.tensor(), x_m.tensor(),
           {.u = u.tensor(),
            .right = right_m.tensor(),
            .left = left_m.tensor(),
            .du = du.tensor(),
            .dright = dright.tensor(),
            .dleft = dleft.tensor()},
           scale);
  EXPECT_LE(relative_error(dx.values(), finite_differences(x, loss)), kGradientError);
  EXPECT_LE(relative_error(dright.values(), finite_differences(right, loss)), kGradientError);
  EXPECT_LE(relative_error(dleft.values(), finite_differences(left, loss)), kGradientError);
}

}  // namespace
}  // namespace facet::op_test
