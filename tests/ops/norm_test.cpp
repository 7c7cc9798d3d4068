#include "kernels/cpu/backend.h"
#include "tests/ops/op_test.h"

namespace facet::op_test {
namespace {

enum class Kind { kRms, kLayer };

// One row as the formulas say. For the root mean square norm mean and bias are 0.
template <typename T>
std::vector<T> naive_norm(Kind kind, const std::vector<T>& x, const std::vector<T>& weight,
                          const std::vector<T>& bias, int64_t rows, int64_t cols, T eps) {
  std::vector<T> y(x.size());
  for (int64_t r = 0; r < rows; ++r) {
    const T* row = x.data() + r * cols;
    T mean = 0, variance = 0;
    if (kind == Kind::kLayer)
      for (int64_t c = 0; c < cols; ++c) mean += row[c] / T(cols);
    for (int64_t c = 0; c < cols; ++c) variance += (row[c] - mean) * (row[c] - mean) / T(cols);
    for (int64_t c = 0; c < cols; ++c)
      y[static_cast<size_t>(r * cols + c)] =
          (row[c] - mean) / std::sqrt(variance + eps) * weight[static_cast<size_t>(c)] +
          (kind == Kind::kLayer ? bias[static_cast<size_t>(c)] : T(0));
  }
  return y;
}

struct Case {
  Kind kind;
  int64_t rows, cols;
};

class Norm : public testing::TestWithParam<Case> {
 protected:
  static constexpr float kEps = 1e-5f;
  const Kind kind_ = GetParam().kind;
  const int64_t n_ = GetParam().rows, d_ = GetParam().cols;
  // Far from mean 0, where a one-pass variance loses digits.
  Values x_ = shifted(random_values(n_ * d_, "x"));
  Values weight_ = random_values(d_, "weight"), bias_ = random_values(d_, "bias");
  const Values dy_ = random_values(n_ * d_, "dy"), dresidual_ = random_values(n_ * d_, "dresidual");
  CpuBackend ops_{2};
  Matrix mean_{1, n_}, rstd_{1, n_};

  static Values shifted(Values x) {
    for (double& value : x) value = static_cast<float>(value + 2);
    return x;
  }
  void forward(Matrix& y, Matrix& x, Matrix& weight, Matrix& bias) {
    if (kind_ == Kind::kRms)
      ops_.rms_norm_forward(y.tensor(), rstd_.vector(), x.tensor(), weight.vector(), kEps);
    else
      ops_.layer_norm_forward(y.tensor(), mean_.vector(), rstd_.vector(), x.tensor(),
                              weight.vector(), bias.vector(), kEps);
  }
  void backward(Tensor dx, Tensor dweight, Tensor dbias, Matrix& dy, Matrix& x, Matrix& weight,
                Tensor dresidual) {
    if (kind_ == Kind::kRms)
      ops_.rms_norm_backward(dx, dweight, Tensor(), dy.tensor(), x.tensor(), weight.vector(),
                             rstd_.vector(), dresidual);
    else
      ops_.layer_norm_backward(dx, dweight, dbias, dy.tensor(), x.tensor(), weight.vector(),
                               mean_.vector(), rstd_.vector(), dresidual);
  }
  double loss() const {
    return dot(naive_norm<double>(kind_, x_, weight_, bias_, n_, d_, kEps), dy_);
  }
};

TEST_P(Norm, ForwardIsAsExactAsPlainFp32) {
  Matrix y(n_, d_, 3), x(n_, d_, x_, 1), weight(1, d_, weight_), bias(1, d_, bias_);
  forward(y, x, weight, bias);
  expect_as_good_as(y.values(), naive_norm<double>(kind_, x_, weight_, bias_, n_, d_, kEps),
                    naive_norm<float>(kind_, cast<float>(x_), cast<float>(weight_),
                                      cast<float>(bias_), n_, d_, kEps));
}

TEST_P(Norm, GradientsAreTheDerivativesAlongRandomDirections) {
  Matrix y(n_, d_), x(n_, d_, x_, 2), weight(1, d_, weight_), bias(1, d_, bias_),
      dy(n_, d_, dy_, 1);
  forward(y, x, weight, bias);
  Matrix dx(n_, d_, 3), dweight(1, d_, Values(weight_.size(), 0)),
      dbias(1, d_, Values(bias_.size(), 0));
  backward(dx.tensor(), dweight.vector(), dbias.vector(), dy, x, weight, Tensor());
  const auto expect_adjoint = [&](Values& at, const Matrix& gradient, const char* name) {
    const Values direction = random_values(static_cast<int64_t>(at.size()), name);
    const double bound =
        2e-6 * std::sqrt(dot(gradient.values(), gradient.values()) * dot(direction, direction));
    EXPECT_NEAR(dot(gradient.values(), direction),
                directional_derivative(at, direction, [&] { return loss(); }), bound + 1e-9)
        << name;
  };
  expect_adjoint(x_, dx, "along x");
  expect_adjoint(weight_, dweight, "along weight");
  if (kind_ == Kind::kLayer) expect_adjoint(bias_, dbias, "along bias");
}

TEST_P(Norm, ResidualIsAddedAndParameterGradientsAccumulate) {
  Matrix y(n_, d_), x(n_, d_, x_), weight(1, d_, weight_), bias(1, d_, bias_), dy(n_, d_, dy_);
  forward(y, x, weight, bias);
  Matrix plain(n_, d_), dweight(1, d_, Values(weight_.size(), 0)),
      dbias(1, d_, Values(bias_.size(), 0));
  backward(plain.tensor(), dweight.vector(), dbias.vector(), dy, x, weight, Tensor());
  // In place on the residual, the parameters' gradients onto other values.
  Matrix in_place(n_, d_, dresidual_, 3), dweight2(1, d_, weight_), dbias2(1, d_, bias_);
  backward(in_place.tensor(), dweight2.vector(), dbias2.vector(), dy, x, weight, in_place.tensor());
  const double rounding = 2e-7;
  EXPECT_LE(relative_error(in_place.values(), sum_of(plain.values(), dresidual_)), rounding);
  EXPECT_LE(relative_error(dweight2.values(), sum_of(dweight.values(), weight_)), rounding);
  if (kind_ == Kind::kLayer) {
    EXPECT_LE(relative_error(dbias2.values(), sum_of(dbias.values(), bias_)), rounding);
  }
  // With a separate residual, and with nothing trained: the same bits.
  Matrix dresidual(n_, d_, dresidual_), apart(n_, d_), frozen(n_, d_);
  backward(apart.tensor(), dweight2.vector(), dbias2.vector(), dy, x, weight, dresidual.tensor());
  EXPECT_TRUE(apart.same_bits(in_place));
  backward(frozen.tensor(), Tensor(), Tensor(), dy, x, weight, dresidual.tensor());
  EXPECT_TRUE(frozen.same_bits(in_place));
  if (kind_ == Kind::kLayer) {
    Matrix weight_alone(1, d_, Values(weight_.size(), 0)),
        bias_alone(1, d_, Values(bias_.size(), 0));
    backward(frozen.tensor(), weight_alone.vector(), Tensor(), dy, x, weight, Tensor());
    backward(frozen.tensor(), Tensor(), bias_alone.vector(), dy, x, weight, Tensor());
    EXPECT_TRUE(weight_alone.same_bits(dweight));
    EXPECT_TRUE(bias_alone.same_bits(dbias));
  }
}

TEST_P(Norm, GradientsMatchFiniteDifferences) {
  if (n_ * d_ > 700) return;  // one forward per element; larger shapes have the directions above
  Matrix y(n_, d_), x(n_, d_, x_), weight(1, d_, weight_), bias(1, d_, bias_), dy(n_, d_, dy_);
  forward(y, x, weight, bias);
  Matrix dx(n_, d_), dweight(1, d_, Values(weight_.size(), 0)),
      dbias(1, d_, Values(bias_.size(), 0));
  backward(dx.tensor(), dweight.vector(), dbias.vector(), dy, x, weight, Tensor());
  const auto f = [&] { return loss(); };
  EXPECT_LE(relative_error(dx.values(), finite_differences(x_, f)), kGradientError);
  EXPECT_LE(relative_error(dweight.values(), finite_differences(weight_, f)), kGradientError);
  if (kind_ == Kind::kLayer) {
    EXPECT_LE(relative_error(dbias.values(), finite_differences(bias_, f)), kGradientError);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Norm,
                         testing::Values(Case{Kind::kRms, 1, 7}, Case{Kind::kRms, 7, 97},
                                         Case{Kind::kRms, 257, 97}, Case{Kind::kRms, 0, 8},
                                         Case{Kind::kLayer, 1, 7}, Case{Kind::kLayer, 7, 97},
                                         Case{Kind::kLayer, 257, 97}, Case{Kind::kLayer, 0, 8}),
                         [](const auto& info) {
                           return std::string(info.param.kind == Kind::kRms ? "Rms" : "Layer") +
                                  std::to_string(info.param.rows) + "x" +
                                  std::to_string(info.param.cols);
                         });

// At mean 1000 and deviation 1 a variance from mean square minus squared mean is noise in fp32.
TEST(NormOp, LayerNormKeepsItsDigitsFarFromZero) {
  const int64_t n = 7, d = 97;
  CpuBackend ops(2);
  Values x = random_values(n * d, "x");
  for (double& value : x) value = static_cast<float>(value + 1000);
  const Values weight = random_values(d, "w"), bias = random_values(d, "b");
  Matrix x_m(n, d, x), weight_m(1, d, weight), bias_m(1, d, bias), mean(1, n), rstd(1, n), y(n, d);
  ops.layer_norm_forward(y.tensor(), mean.vector(), rstd.vector(), x_m.tensor(), weight_m.vector(),
                         bias_m.vector(), 1e-5f);
  expect_as_good_as(y.values(), naive_norm<double>(Kind::kLayer, x, weight, bias, n, d, 1e-5f),
                    naive_norm<float>(Kind::kLayer, cast<float>(x), cast<float>(weight),
                                      cast<float>(bias), n, d, 1e-5f));
}

TEST(NormOp, TwoRunsGiveTheSameBits) {
  const int64_t n = 257, d = 97;
  CpuBackend ops(2);
  Matrix x(n, d, random_values(n * d, "x")), dy(n, d, random_values(n * d, "dy")),
      weight(1, d, random_values(d, "w")), rstd(1, n), y(n, d), dx(n, d);
  ops.rms_norm_forward(y.tensor(), rstd.vector(), x.tensor(), weight.vector(), 1e-5f);
  Matrix first(1, d, Values(d, 0)), second(1, d, Values(d, 0));
  for (Matrix* dweight : {&first, &second})
    ops.rms_norm_backward(dx.tensor(), dweight->vector(), Tensor(), dy.tensor(), x.tensor(),
                          weight.vector(), rstd.vector(), Tensor());
  EXPECT_TRUE(first.same_bits(second));
}

TEST(NormOp, BackwardHasTheOutputAgain) {
  const int64_t n = 97, d = 257;
  CpuBackend ops(2);
  Matrix x(n, d, random_values(n * d, "x"), 1), dy(n, d, random_values(n * d, "dy"), 2),
      weight(1, d, random_values(d, "w")), rstd(1, n), y(n, d), again(n, d, 3);
  ops.rms_norm_forward(y.tensor(), rstd.vector(), x.tensor(), weight.vector(), 1e-5f);
  Matrix dx(n, d), dweight(1, d, Values(d, 0));
  const auto backward = [&](const Tensor& dx_to, Matrix& dweight_to, const Tensor& y_to) {
    ops.rms_norm_backward(dx_to, dweight_to.vector(), y_to, dy.tensor(), x.tensor(),
                          weight.vector(), rstd.vector(), Tensor());
  };
  backward(dx.tensor(), dweight, Tensor());
  for (Matrix* const to : {&again, &dy}) {
    Matrix dx_again(n, d), dweight_again(1, d, Values(d, 0));
    backward(dx_again.tensor(), dweight_again, to->tensor());
    EXPECT_TRUE(to->same_bits(y));
    EXPECT_TRUE(dx_again.same_bits(dx));
    EXPECT_TRUE(dweight_again.same_bits(dweight));
  }
}

}  // namespace
}  // namespace facet::op_test
