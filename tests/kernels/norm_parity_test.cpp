// The norms' kernels against the CPU backend and fp64.
#include "kernels/cuda/launchers.h"
#include "tests/kernels/parity.h"

namespace facet::kernel_test {
namespace {

constexpr float kEps = 1e-5f;
enum class Kind { kRms, kLayer };

template <typename T>
struct NormResult {
  std::vector<T> y, mean, rstd, dx, dweight, dbias;
};

template <typename T>
struct NormInputs {
  std::vector<T> x, weight, bias, dy, dresidual, dweight, dbias;
};

// The formulas of ops/ops.h; gradients are accumulated.
template <typename T>
NormResult<T> naive_norm(Kind kind, const NormInputs<T>& in, int64_t rows, int64_t cols) {
  NormResult<T> out{std::vector<T>(in.x.size()), {}, {}, in.dresidual, in.dweight, in.dbias};
  const T count = static_cast<T>(cols);
  for (int64_t r = 0; r < rows; ++r) {
    const auto at = [=](int64_t c) { return static_cast<size_t>(r * cols + c); };
    T mean = 0, squares = 0;
    if (kind == Kind::kLayer)
      for (int64_t c = 0; c < cols; ++c) mean += in.x[at(c)] / count;
    for (int64_t c = 0; c < cols; ++c)
      squares += (in.x[at(c)] - mean) * (in.x[at(c)] - mean) / count;
    const T rstd = 1 / std::sqrt(squares + static_cast<T>(kEps));
    out.mean.push_back(mean);
    out.rstd.push_back(rstd);
    T sum = 0, projection = 0;
    for (int64_t c = 0; c < cols; ++c) {
      const auto w = static_cast<size_t>(c);
      const T normed = (in.x[at(c)] - mean) * rstd, g = in.dy[at(c)] * in.weight[w];
      out.y[at(c)] = normed * in.weight[w] + (kind == Kind::kLayer ? in.bias[w] : T(0));
      out.dweight[w] += in.dy[at(c)] * normed;
      out.dbias[w] += in.dy[at(c)];
      sum += g / count;
      projection += g * normed / count;
    }
    if (kind == Kind::kRms) sum = 0;
    for (int64_t c = 0; c < cols; ++c) {
      const T normed = (in.x[at(c)] - mean) * rstd;
      const T g = in.dy[at(c)] * in.weight[static_cast<size_t>(c)];
      out.dx[at(c)] += rstd * (g - sum - normed * projection);
    }
  }
  return out;
}

class NormParity : public Parity {
 protected:
  ParityMatrix &x_ = matrix("x", d_, Role::kIn), &dy_ = matrix("dy", d_, Role::kIn),
               &weight_ = vector("weight", d_, dtype_, Role::kIn),
               &bias_ = vector("bias", d_, dtype_, Role::kIn);

  template <typename T>
  NormInputs<T> inputs(const ParityMatrix& dresidual, const ParityMatrix& dweight,
                       const ParityMatrix& dbias) const {
    const auto cast = [](const ParityMatrix& m) { return op_test::cast<T>(m.start()); };
    return {cast(x_),        cast(weight_), cast(bias_), cast(dy_),
            cast(dresidual), cast(dweight), cast(dbias)};
  }

  void check_forward(Kind kind) {
    ParityMatrix& y = matrix("y", d_, Role::kOut);
    ParityMatrix& mean = vector("mean", n_, DType::kF32, Role::kOut);
    ParityMatrix& rstd = vector("rstd", n_, DType::kF32, Role::kOut);
    run_kernels([&] {
      if (kind == Kind::kRms)
        cuda::rms_norm_forward(y.device(), rstd.device_f32(), x_.device(), weight_.device(), kEps,
                               stream_);
      else
        cuda::layer_norm_forward(y.device(), mean.device_f32(), rstd.device_f32(), x_.device(),
                                 weight_.device(), bias_.device(), kEps, stream_);
    });
    if (kind == Kind::kRms)
      cpu().rms_norm_forward(y.host(), rstd.host_vector(), x_.host(), weight_.host_vector(), kEps);
    else
      cpu().layer_norm_forward(y.host(), mean.host_vector(), rstd.host_vector(), x_.host(),
                               weight_.host_vector(), bias_.host_vector(), kEps);
    const auto exact = naive_norm(kind, inputs<double>(x_, weight_, bias_), n_, d_);
    const auto naive = naive_norm(kind, inputs<float>(x_, weight_, bias_), n_, d_);
    expect_parity(y, exact.y, naive.y);
    expect_parity(rstd, exact.rstd, naive.rstd);
    if (kind == Kind::kLayer)
      expect_parity(mean, exact.mean, naive.mean, 2, 1 + norm(mean_sizes()) / norm(exact.mean));
  }

  // Of each row, the mean without signs: what the mean cancels out of.
  Values mean_sizes() const {
    Values sizes(static_cast<size_t>(n_));
    for (size_t i = 0; i < x_.start().size(); ++i)
      sizes[i / static_cast<size_t>(d_)] += std::abs(x_.start()[i]) / static_cast<double>(d_);
    return sizes;
  }

  // Statistics as the forward leaves them: rounded to fp32.
  void make_statistics(Kind kind, ParityMatrix& mean, ParityMatrix& rstd) {
    const auto exact = naive_norm(kind, inputs<double>(x_, weight_, bias_), n_, d_);
    mean.set(rounded(exact.mean, DType::kF32));
    rstd.set(rounded(exact.rstd, DType::kF32));
  }

  void check_backward(Kind kind) {
    ParityMatrix& mean = vector("mean", n_, DType::kF32, Role::kIn);
    ParityMatrix& rstd = vector("rstd", n_, DType::kF32, Role::kIn);
    make_statistics(kind, mean, rstd);
    // In place on the residual's gradient; the parameters' gradients are added to.
    ParityMatrix& dx = matrix("dresidual", d_, Role::kInOut);
    ParityMatrix& dweight = vector("dweight", d_, DType::kF32, Role::kInOut);
    ParityMatrix& dbias = vector("dbias", d_, DType::kF32, Role::kInOut);
    run_kernels([&] {
      if (kind == Kind::kRms)
        cuda::rms_norm_backward(dx.device(), dweight.device_f32(), {}, dy_.device(), x_.device(),
                                weight_.device(), rstd.device_f32(), dx.device(), stream_);
      else
        cuda::layer_norm_backward(dx.device(), dweight.device_f32(), dbias.device_f32(),
                                  dy_.device(), x_.device(), weight_.device(), mean.device_f32(),
                                  rstd.device_f32(), dx.device(), stream_);
    });
    if (kind == Kind::kRms)
      cpu().rms_norm_backward(dx.host(), dweight.host_vector(), Tensor(), dy_.host(), x_.host(),
                              weight_.host_vector(), rstd.host_vector(), dx.host());
    else
      cpu().layer_norm_backward(dx.host(), dweight.host_vector(), dbias.host_vector(), dy_.host(),
                                x_.host(), weight_.host_vector(), mean.host_vector(),
                                rstd.host_vector(), dx.host());
    const auto exact = naive_norm(kind, inputs<double>(dx, dweight, dbias), n_, d_);
    const auto naive = naive_norm(kind, inputs<float>(dx, dweight, dbias), n_, d_);
    expect_parity(dx, exact.dx, naive.dx, kGradientFactor,
                  1 + largest_term(exact) / norm(exact.dx));
    expect_parity(dweight, exact.dweight, naive.dweight, kGradientFactor);
    if (kind == Kind::kLayer) expect_parity(dbias, exact.dbias, naive.dbias, kGradientFactor);
  }

  static double norm(const Values& x) { return std::sqrt(op_test::dot(x, x)); }
  // The norm of dy weight rstd, of which the mean and the part along x are taken away.
  double largest_term(const NormResult<double>& result) const {
    double squares = 0;
    for (size_t i = 0; i < x_.start().size(); ++i) {
      const size_t row = i / static_cast<size_t>(d_), col = i % static_cast<size_t>(d_);
      const double term = dy_.start()[i] * weight_.start()[col] * result.rstd[row];
      squares += term * term;
    }
    return std::sqrt(squares);
  }

  // Nobody trained and no residual: the input's gradient has the same bits.
  void check_absent_operands(Kind kind) {
    ParityMatrix& mean = vector("mean", n_, DType::kF32, Role::kIn);
    ParityMatrix& rstd = vector("rstd", n_, DType::kF32, Role::kIn);
    make_statistics(kind, mean, rstd);
    ParityMatrix& with = matrix("with", d_, Role::kOut);
    ParityMatrix& without = matrix("without", d_, Role::kOut);
    ParityMatrix& zero = matrix("zero", d_, Role::kIn);
    zero.set(Values(static_cast<size_t>(n_ * d_), 0.0));
    const cuda::Operand none;
    if (kind == Kind::kRms) {
      cuda::rms_norm_backward(with.device(), nullptr, none, dy_.device(), x_.device(),
                              weight_.device(), rstd.device_f32(), zero.device(), stream_);
      cuda::rms_norm_backward(without.device(), nullptr, none, dy_.device(), x_.device(),
                              weight_.device(), rstd.device_f32(), none, stream_);
    } else {
      cuda::layer_norm_backward(with.device(), nullptr, nullptr, dy_.device(), x_.device(),
                                weight_.device(), mean.device_f32(), rstd.device_f32(),
                                zero.device(), stream_);
      cuda::layer_norm_backward(without.device(), nullptr, nullptr, dy_.device(), x_.device(),
                                weight_.device(), mean.device_f32(), rstd.device_f32(), none,
                                stream_);
    }
    EXPECT_TRUE(same_bits(with.of_gpu(), without.of_gpu()));
  }
};

TEST_P(NormParity, RmsForward) { check_forward(Kind::kRms); }
TEST_P(NormParity, RmsBackward) { check_backward(Kind::kRms); }
TEST_P(NormParity, RmsBackwardHasTheOutputAgain) {
  ParityMatrix& rstd = vector("rstd", n_, DType::kF32, Role::kOut);
  ParityMatrix& y = matrix("y", d_, Role::kOut);
  ParityMatrix& again = add("again", n_, d_, gap_ + 1, dtype_, Role::kOut);
  ParityMatrix& dy = matrix("dy", d_, Role::kInOut);
  ParityMatrix& dx = matrix("dx", d_, Role::kOut);
  ParityMatrix& dweight = vector("dweight", d_, DType::kF32, Role::kInOut);
  cuda::rms_norm_forward(y.device(), rstd.device_f32(), x_.device(), weight_.device(), kEps,
                         stream_);
  const auto backward = [&](const cuda::Operand& to) {
    dweight.upload();
    cuda::rms_norm_backward(dx.device(), dweight.device_f32(), to, dy.device(), x_.device(),
                            weight_.device(), rstd.device_f32(), {}, stream_);
    return std::pair(dx.of_gpu(), dweight.of_gpu());
  };
  const auto without = backward({});
  for (ParityMatrix* const to : {&again, &dy}) {  // the latter in place
    const auto with = backward(to->device());
    EXPECT_TRUE(same_bits(to->of_gpu(), y.of_gpu()));
    EXPECT_TRUE(same_bits(with.first, without.first));
    EXPECT_TRUE(same_bits(with.second, without.second));
  }
}
TEST_P(NormParity, LayerForward) { check_forward(Kind::kLayer); }
TEST_P(NormParity, LayerBackward) { check_backward(Kind::kLayer); }
TEST_P(NormParity, AbsentOperandsRms) { check_absent_operands(Kind::kRms); }
TEST_P(NormParity, AbsentOperandsLayer) { check_absent_operands(Kind::kLayer); }

// The variance of rows with a much larger mean, which mean squares would lose.
class NormParityFarFromZero : public NormParity {};
TEST_P(NormParityFarFromZero, LayerForward) {
  Values x = x_.start();
  for (double& value : x) value += 300;
  x_.set(rounded(x, dtype_));
  check_forward(Kind::kLayer);
}
INSTANTIATE_TEST_SUITE_P(Rows, NormParityFarFromZero,
                         testing::Values(ParityCase{DType::kF32, 7, 97, 0},
                                         ParityCase{DType::kF32, 7, 257, 1}),
                         name_of_case);
INSTANTIATE_TEST_SUITE_P(Sizes, NormParity, testing::ValuesIn(parity_cases()), name_of_case);
INSTANTIATE_TEST_SUITE_P(RealSizes, NormParity,
                         testing::ValuesIn(real_cases({{8192, 4096}, {4112, 1024}})), name_of_case);

}  // namespace
}  // namespace facet::kernel_test
