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

template <typename T>
std::vector<T> naive_act(const Values& gate_up, int64_t rows, int64_t cols) {
  std::vector<T> act;
  for (int64_t i = 0; i < rows * cols; ++i) {
    const auto gate_at = static_cast<size_t>(i / cols * 2 * cols + i % cols);
    const auto g = static_cast<T>(gate_up[gate_at]);
    act.push_back(g * sigmoid(g) * static_cast<T>(gate_up[gate_at + static_cast<size_t>(cols)]));
  }
  return act;
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
    std::vector<T> dgate_up(gate_up.size());
    for (int64_t i = 0; i < n_ * d_; ++i) {
      const auto at = static_cast<size_t>(i);
      const auto gate_at = static_cast<size_t>(i / d_ * 2 * d_ + i % d_);
      const auto up_at = gate_at + static_cast<size_t>(d_);
      const auto g = static_cast<T>(gate_up[gate_at]), u = static_cast<T>(gate_up[up_at]);
      const auto d = static_cast<T>(dact[at]), s = sigmoid(g);
      dgate_up[gate_at] = d * u * s * (1 + g * (1 - s));
      dgate_up[up_at] = d * g * s;
    }
    return {naive_act<T>(gate_up, n_, d_), dgate_up};
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

struct SwigluLoraCase {
  DType dtype;
  int64_t rows, cols, rank, gap;

  operator ParityCase() const { return {dtype, rows, cols, gap}; }
};
void PrintTo(const SwigluLoraCase& c, std::ostream* out) {
  *out << c.rows << " x " << c.cols << ", rank " << c.rank;
}

// Blocks with rows that are not there, steps that end within and without columns, more of them than
// stages, and each of the padded ranks.
std::vector<SwigluLoraCase> swiglu_lora_cases() {
  std::vector<SwigluLoraCase> cases;
  for (const DType dtype : {DType::kBF16, DType::kF16})
    for (const auto& [rows, cols, rank, gap] : {std::array<int64_t, 4>{1, 8, 8, 0},
                                                {7, 648, 16, 8},
                                                {32, 64, 24, 16},
                                                {33, 200, 32, 0},
                                                {97, 328, 64, 8},
                                                {7, 392, 40, 0}})
      cases.push_back({dtype, rows, cols, rank, gap});
  for (const ParityCase& c : real_cases({{1024, 11008}}))
    cases.push_back({c.dtype, c.rows, c.cols, 16, c.gap});
  return cases;
}

class SwigluLoraParity : public ParityRig, public testing::WithParamInterface<SwigluLoraCase> {
 protected:
  SwigluLoraParity() : ParityRig(GetParam()) {}
};

TEST_P(SwigluLoraParity, HasTheBitsOfTwoPasses) {
  const int64_t rank = GetParam().rank;
  ParityMatrix& gate_up = matrix("gate_up", 2 * d_, Role::kIn);
  ParityMatrix& right = add("right", d_, rank, 0, dtype_, Role::kIn);
  ParityMatrix &act = matrix("act", d_, Role::kOut), &u = matrix("u", rank, Role::kOut);
  ParityMatrix &both_act = matrix("act", d_, Role::kOut), &both_u = matrix("u", rank, Role::kOut);
  Values values = gate_up.start();
  for (size_t i = 0; i < values.size(); i += 37) values[i] = -60 - static_cast<double>(i % 60);
  gate_up.set(rounded(values, dtype_));
  constexpr int kOneMultiprocessor = 1;
  ASSERT_TRUE(cuda::swiglu_lora_takes(act.device(), gate_up.device(), u.device(), right.device(),
                                      kOneMultiprocessor));
  run_kernels([&] {
    cuda::swiglu_forward(act.device(), gate_up.device(), stream_);
    const cuda::LoraOperands part{{}, {}, u.device(), right.device(), {}};
    cuda::lora_forward({&part, 1}, act.device(), 1, cuda::LoraU::kComputed, kOneMultiprocessor,
                       stream_);
    cuda::swiglu_lora_forward(both_act.device(), gate_up.device(), both_u.device(), right.device(),
                              stream_);
  });
  EXPECT_TRUE(same_bits(both_act.of_gpu(), act.of_gpu()));
  EXPECT_TRUE(same_bits(both_u.of_gpu(), u.of_gpu()));
  cpu().swiglu_forward(act.host(), gate_up.host());
  expect_parity(act, naive_act<double>(gate_up.start(), n_, d_),
                naive_act<float>(gate_up.start(), n_, d_));
}

// What it leaves to two passes.
TEST(SwigluLora, TakesWholePacksOfFewRanksInManyRows) {
  alignas(16) char aligned[16] = {};
  const auto takes = [&](DType dtype, int64_t rows, int64_t cols, int64_t rank) {
    const auto of = [&](int64_t r, int64_t c) { return cuda::Operand{aligned, r, c, c, dtype}; };
    return cuda::swiglu_lora_takes(of(rows, cols), of(rows, 2 * cols), of(rows, rank),
                                   of(cols, rank), 132);
  };
  EXPECT_TRUE(takes(DType::kBF16, 99 * 32, 64, 16));
  EXPECT_TRUE(takes(DType::kF16, 98 * 32 + 1, 72, 64));
  EXPECT_FALSE(takes(DType::kBF16, 98 * 32, 64, 16));
  EXPECT_FALSE(takes(DType::kF32, 8192, 64, 16));
  EXPECT_FALSE(takes(DType::kBF16, 8192, 68, 16));
  EXPECT_FALSE(takes(DType::kBF16, 8192, 64, 12));
  EXPECT_FALSE(takes(DType::kBF16, 8192, 64, 72));
}

std::string name_of_swiglu_lora_case(const testing::TestParamInfo<SwigluLoraCase>& info) {
  const auto& [dtype, rows, cols, rank, gap] = info.param;
  return fmt::format("{}_{}x{}r{}_gap{}", name_of(dtype), rows, cols, rank, gap);
}
INSTANTIATE_TEST_SUITE_P(Sizes, SwigluLoraParity, testing::ValuesIn(swiglu_lora_cases()),
                         name_of_swiglu_lora_case);

}  // namespace
}  // namespace facet::kernel_test
