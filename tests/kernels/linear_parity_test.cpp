// The products of linear layers against the CPU backend and fp64.
#include "kernels/cuda/linear.h"
#include "tests/kernels/parity.h"

namespace facet::kernel_test {
namespace {

using op_test::cast, op_test::multiply, op_test::sum_of, op_test::transpose;

struct LinearCase {
  DType dtype;
  int64_t rows, inputs, outputs, gap;

  operator ParityCase() const { return {dtype, rows, inputs, gap}; }
};

std::string name_of_linear_case(const testing::TestParamInfo<LinearCase>& info) {
  const auto& [dtype, rows, inputs, outputs, gap] = info.param;
  return fmt::format("{}_{}x{}x{}_gap{}", name_of(dtype), rows, inputs, outputs, gap);
}
void PrintTo(const LinearCase& c, std::ostream* out) { *out << c.rows << " rows"; }

std::vector<LinearCase> linear_cases() {
  struct Sizes {
    int64_t rows, inputs, outputs;
  };
  const Sizes all[] = {{1, 1, 1},    {1, 257, 97}, {7, 97, 257},  {97, 257, 7},
                       {257, 7, 97}, {97, 64, 1},  {64, 128, 72}, {257, 257, 257}};
  std::vector<LinearCase> cases;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    for (const auto& [rows, inputs, outputs] : all) {
      if (every_access_is_watched() && rows * inputs * outputs > 200'000) continue;
      cases.push_back({dtype, rows, inputs, outputs, 0});
      cases.push_back({dtype, rows, inputs, outputs, 3});
      cases.push_back({dtype, rows, inputs, outputs, 8});
    }
  return cases;
}

// The head, whose columns are no multiple of 8, and the longest sums. `make check-kernels-full`.
std::vector<LinearCase> real_linear_cases() {
  std::vector<LinearCase> cases;
  for (const ParityCase& c : real_cases({{8, 4096}, {8, 11008}}))
    cases.push_back({c.dtype, c.rows, c.cols, c.cols == 4096 ? 32002 : 4096, 0});
  return cases;
}

class LinearParity : public ParityRig, public testing::WithParamInterface<LinearCase> {
 protected:
  LinearParity() : ParityRig(GetParam()) {}

  const int64_t i_ = GetParam().inputs, o_ = GetParam().outputs;
  cuda::LinearProducts products_{stream_, kWorkspace};
  ParityMatrix& x_ = matrix("x", i_, Role::kIn);
  ParityMatrix& weight_ = add("weight", o_, i_, gap_, dtype_, Role::kIn);
  ParityMatrix& dy_ = matrix("dy", o_, Role::kIn);

  // y = x W' + bias + residual; a null matrix is absent.
  void check_forward(ParityMatrix& y, ParityMatrix* bias, ParityMatrix* residual) {
    const auto device = [](ParityMatrix* m) { return m ? m->device() : cuda::Operand{}; };
    run_kernels([&] {
      products_.linear_forward(y.device(), x_.device(), weight_.device(), device(bias),
                               device(residual));
    });
    cpu().linear_forward(y.host(), x_.host(), weight_.host(), bias ? bias->host_vector() : Tensor(),
                         residual ? residual->host() : Tensor());
    const auto outputs = [&](auto zero) {
      using T = decltype(zero);
      auto sum =
          multiply(cast<T>(x_.start()), transpose(cast<T>(weight_.start()), o_, i_), n_, i_, o_);
      for (size_t at = 0; bias && at < sum.size(); ++at)
        sum[at] += static_cast<T>(bias->start()[at % static_cast<size_t>(o_)]);
      return residual ? sum_of(sum, cast<T>(residual->start())) : sum;
    };
    expect_parity(y, outputs(0.0), outputs(0.0f));
  }

  template <typename T>
  std::vector<T> dx() const {
    return multiply(cast<T>(dy_.start()), cast<T>(weight_.start()), n_, o_, i_);
  }
  static constexpr size_t kWorkspace = 8192;
};

TEST_P(LinearParity, Forward) { check_forward(matrix("y", o_, Role::kOut), nullptr, nullptr); }

TEST_P(LinearParity, ForwardWithBias) {
  ParityMatrix& bias = vector("bias", o_, dtype_, Role::kIn);
  check_forward(matrix("y", o_, Role::kOut), &bias, nullptr);
}

TEST_P(LinearParity, ForwardWithBiasAndResidual) {
  ParityMatrix& bias = vector("bias", o_, dtype_, Role::kIn);
  ParityMatrix& residual = add("residual", n_, o_, gap_ + 1, dtype_, Role::kIn);
  check_forward(matrix("y", o_, Role::kOut), &bias, &residual);
}

TEST_P(LinearParity, TheResidualMayBeTheOutput) {
  ParityMatrix& y = matrix("residual", o_, Role::kInOut);
  check_forward(y, nullptr, &y);
}

TEST_P(LinearParity, BackwardInput) {
  ParityMatrix& dx = matrix("dx", i_, Role::kOut);
  ParityMatrix& total = matrix("total", i_, Role::kInOut);
  run_kernels([&] {
    products_.linear_backward_input(dx.device(), dy_.device(), weight_.device());
    products_.linear_backward_input_accumulate(total.device(), dy_.device(), weight_.device());
  });
  cpu().linear_backward_input(dx.host(), dy_.host(), weight_.host());
  cpu().linear_backward_input_accumulate(total.host(), dy_.host(), weight_.host());
  expect_parity(dx, this->dx<double>(), this->dx<float>(), kGradientFactor);
  expect_parity(total, sum_of(this->dx<double>(), total.start()),
                sum_of(this->dx<float>(), cast<float>(total.start())), kGradientFactor);
}

TEST_P(LinearParity, BackwardWeight) {
  ParityMatrix& dweight = add("dweight", o_, i_, gap_, DType::kF32, Role::kInOut);
  ParityMatrix& dbias = vector("dbias", o_, DType::kF32, Role::kInOut);
  run_kernels([&] {
    products_.linear_backward_weight(dweight.device(), dbias.device(), dy_.device(), x_.device());
  });
  cpu().linear_backward_weight(dweight.host(), dbias.host_vector(), dy_.host(), x_.host());
  const auto gradients = [&](auto zero) {
    using T = decltype(zero);
    const auto by_output = transpose(cast<T>(dy_.start()), n_, o_);
    const std::vector<T> ones(static_cast<size_t>(n_), T(1));
    return std::pair(
        sum_of(multiply(by_output, cast<T>(x_.start()), o_, n_, i_), cast<T>(dweight.start())),
        sum_of(multiply(by_output, ones, o_, n_, 1), cast<T>(dbias.start())));
  };
  const auto exact = gradients(0.0);
  const auto naive = gradients(0.0f);
  expect_parity(dweight, exact.first, naive.first, kGradientFactor);
  expect_parity(dbias, exact.second, naive.second, kGradientFactor);
}

INSTANTIATE_TEST_SUITE_P(Sizes, LinearParity, testing::ValuesIn(linear_cases()),
                         name_of_linear_case);
INSTANTIATE_TEST_SUITE_P(RealSizes, LinearParity, testing::ValuesIn(real_linear_cases()),
                         name_of_linear_case);

// ---- apart from the numbers

class LinearProducts : public testing::Test {
 protected:
  static cuda::Operand of(float* data, int64_t rows, int64_t cols) {
    return {data, rows, cols, cols, DType::kF32};
  }
  TestStream stream_;
  cuda::LinearProducts products_{stream_, 0};
  const DeviceBuffer<float> x_{std::vector<float>(64 * 8, 1), stream_};
  const DeviceBuffer<float> weight_{std::vector<float>(16 * 8, 1), stream_};
  const DeviceBuffer<float> y_{std::vector<float>(64 * 16, 5), stream_};
};

TEST_F(LinearProducts, AStepThatRepeatsAnotherPreparesNothing) {
  const auto step = [&](int64_t rows) {
    const auto x = of(x_.data(), rows, 8), w = of(weight_.data(), 16, 8),
               y = of(y_.data(), rows, 16);
    products_.linear_forward(y, x, w, {}, {});
    products_.linear_forward(y, x, w, {}, y);
    products_.linear_backward_input(x, y, w);
    products_.linear_backward_weight(w, {}, y, x);
  };
  step(7);
  const int64_t made = products_.plans_made();
  EXPECT_GE(made, 3);
  step(7);
  EXPECT_EQ(products_.plans_made(), made);
  step(9);
  EXPECT_EQ(products_.plans_made(), 2 * made);
}

// The algorithm of an aligned matrix may not be used where the same shape begins elsewhere.
TEST_F(LinearProducts, TheSameShapeAtAnotherAddress) {
  const auto w = of(weight_.data(), 16, 8);
  for (const int64_t offset : {0, 1, 2, 4})
    products_.linear_forward(of(y_.data() + offset, 7, 16), of(x_.data() + offset, 7, 8), w, {},
                             {});
  EXPECT_EQ(y_.download(stream_)[4], 8);
}

TEST_F(LinearProducts, TheSameBiasAtAnotherAddress) {
  const auto x = of(x_.data(), 7, 8), w = of(weight_.data(), 15, 8), y = of(y_.data(), 7, 15);
  const DeviceBuffer<float> bias(std::vector<float>(19, 3), stream_);
  for (const int64_t offset : {0, 1, 2, 4})
    products_.linear_forward(y, x, w, of(bias.data() + offset, 1, 15), {});
  EXPECT_EQ(y_.download(stream_)[0], 11);
  EXPECT_EQ(products_.plans_made(), 3);
}

TEST_F(LinearProducts, ArenaAddressesShareAPlan) {
  const auto w = of(weight_.data(), 16, 8);
  for (const int64_t offset : {0, 16, 32})
    products_.linear_forward(of(y_.data() + offset, 7, 16), of(x_.data() + offset, 7, 8), w, {},
                             {});
  EXPECT_EQ(products_.plans_made(), 1);
}

TEST_F(LinearProducts, NoRowsChangeNothing) {
  const auto x = of(x_.data(), 0, 8), w = of(weight_.data(), 16, 8), y = of(y_.data(), 0, 16);
  products_.linear_forward(y, x, w, {}, {});
  products_.linear_backward_input(x, y, w);
  products_.linear_backward_weight(w, of(y_.data(), 1, 16), y, x);
  EXPECT_EQ(products_.plans_made(), 0);
  EXPECT_EQ(weight_.download(stream_), std::vector<float>(16 * 8, 1));
  EXPECT_EQ(y_.download(stream_), std::vector<float>(64 * 16, 5));
}

}  // namespace
}  // namespace facet::kernel_test
