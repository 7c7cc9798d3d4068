// SwiGLU's and GELU's kernels against the CPU backend and fp64.
#include "kernels/cuda/launchers.h"
#include "tests/kernels/parity.h"

namespace facet::kernel_test {
namespace {

template <typename T>
T sigmoid(T x) {
  return 1 / (1 + std::exp(-x));
}

template <typename T>
struct ValueAndSlope {
  T value, slope;
};

template <typename T>
ValueAndSlope<T> naive_gelu(Activation activation, T x) {
  if (activation == Activation::kQuickGelu) {
    const T k = static_cast<T>(1.702), s = sigmoid(k * x);
    return {x * s, s * (1 + k * x * (1 - s))};
  }
  if (activation == Activation::kGeluTanh) {
    const T k = std::sqrt(static_cast<T>(M_2_PI)), c = static_cast<T>(0.044715);
    const T tanh = std::tanh(k * (x + c * x * x * x));
    return {x * (1 + tanh) / 2,
            (1 + tanh) / 2 + x * (1 - tanh * tanh) * k * (1 + 3 * c * x * x) / 2};
  }
  const T cdf = (1 + std::erf(x / std::sqrt(T(2)))) / 2;
  const T density = std::exp(-x * x / 2) / std::sqrt(static_cast<T>(2 * M_PI));
  return {x * cdf, cdf + x * density};
}

class ActivationParity : public Parity {
 protected:
  void check_gelu(Activation activation) {
    ParityMatrix& x = matrix("x", d_, Role::kIn);
    ParityMatrix& y = matrix("y", d_, Role::kOut);
    ParityMatrix& dx = matrix("dy", d_, Role::kInOut);  // in place
    const auto forward = activation == Activation::kQuickGelu ? cuda::quick_gelu_forward
                         : activation == Activation::kGelu    ? cuda::gelu_forward
                                                              : cuda::gelu_tanh_forward;
    const auto backward = activation == Activation::kQuickGelu ? cuda::quick_gelu_backward
                          : activation == Activation::kGelu    ? cuda::gelu_backward
                                                               : cuda::gelu_tanh_backward;
    run_kernels([&] {
      forward(y.device(), x.device(), stream_);
      backward(dx.device(), dx.device(), x.device(), stream_);
    });
    cpu().gelu_forward(y.host(), x.host(), activation);
    cpu().gelu_backward(dx.host(), dx.host(), x.host(), activation);
    const auto both = [&](auto zero) {
      using T = decltype(zero);
      std::vector<T> value, gradient;
      for (size_t i = 0; i < x.start().size(); ++i) {
        const auto [v, slope] = naive_gelu(activation, static_cast<T>(x.start()[i]));
        value.push_back(v);
        gradient.push_back(static_cast<T>(dx.start()[i]) * slope);
      }
      return std::pair(value, gradient);
    };
    const auto exact = both(0.0);
    const auto naive = both(0.0f);
    expect_parity(y, exact.first, naive.first);
    expect_parity(dx, exact.second, naive.second, kGradientFactor);
  }

  // act, then dgate|dup.
  template <typename T>
  std::pair<std::vector<T>, std::vector<T>> naive_swiglu(const Values& gate_up,
                                                         const Values& dact) const {
    std::vector<T> act(dact.size()), dgate_up(gate_up.size());
    for (int64_t i = 0; i < n_ * d_; ++i) {
      const auto at = static_cast<size_t>(i);
      const auto gate_at = static_cast<size_t>(i / d_ * 2 * d_ + i % d_);
      const auto up_at = gate_at + static_cast<size_t>(d_);
      const auto g = static_cast<T>(gate_up[gate_at]), u = static_cast<T>(gate_up[up_at]);
      const auto d = static_cast<T>(dact[at]), s = sigmoid(g);
      act[at] = g * s * u;
      dgate_up[gate_at] = d * u * s * (1 + g * (1 - s));
      dgate_up[up_at] = d * g * s;
    }
    return {act, dgate_up};
  }
};

TEST_P(ActivationParity, QuickGelu) { check_gelu(Activation::kQuickGelu); }
TEST_P(ActivationParity, Gelu) { check_gelu(Activation::kGelu); }
TEST_P(ActivationParity, GeluTanh) { check_gelu(Activation::kGeluTanh); }

TEST_P(ActivationParity, Swiglu) {
  ParityMatrix& gate_up = matrix("gate_up", 2 * d_, Role::kIn);
  ParityMatrix& dact = matrix("dact", d_, Role::kIn);
  ParityMatrix& act = matrix("act", d_, Role::kOut);
  ParityMatrix& dgate_up = matrix("dgate_up", 2 * d_, Role::kOut);
  run_kernels([&] {
    cuda::swiglu_forward(act.device(), gate_up.device(), stream_);
    cuda::swiglu_backward(dgate_up.device(), {}, dact.device(), gate_up.device(), stream_);
  });
  cpu().swiglu_forward(act.host(), gate_up.host());
  cpu().swiglu_backward(dgate_up.host(), Tensor(), dact.host(), gate_up.host());
  const auto exact = naive_swiglu<double>(gate_up.start(), dact.start());
  const auto naive = naive_swiglu<float>(gate_up.start(), dact.start());
  expect_parity(act, exact.first, naive.first);
  expect_parity(dgate_up, exact.second, naive.second, kGradientFactor);
}

TEST_P(ActivationParity, SwiglusBackwardHasTheOutputAgain) {
  ParityMatrix& gate_up = matrix("gate_up", 2 * d_, Role::kIn);
  ParityMatrix& dact = matrix("dact", d_, Role::kInOut);
  ParityMatrix& act = matrix("act", d_, Role::kOut);
  ParityMatrix& again = add("again", n_, d_, gap_ + 1, dtype_, Role::kOut);
  ParityMatrix& without = matrix("without", 2 * d_, Role::kOut);
  ParityMatrix& dgate_up = matrix("dgate_up", 2 * d_, Role::kOut);
  cuda::swiglu_forward(act.device(), gate_up.device(), stream_);
  cuda::swiglu_backward(without.device(), {}, dact.device(), gate_up.device(), stream_);
  for (ParityMatrix* const to : {&again, &dact}) {  // the latter in place
    dgate_up.upload();
    cuda::swiglu_backward(dgate_up.device(), to->device(), dact.device(), gate_up.device(),
                          stream_);
    EXPECT_TRUE(same_bits(to->of_gpu(), act.of_gpu()));
    EXPECT_TRUE(same_bits(dgate_up.of_gpu(), without.of_gpu()));
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, ActivationParity, testing::ValuesIn(parity_cases()), name_of_case);
INSTANTIATE_TEST_SUITE_P(RealSizes, ActivationParity,
                         testing::ValuesIn(real_cases({{1024, 11008}, {4112, 4096}})),
                         name_of_case);

}  // namespace
}  // namespace facet::kernel_test
