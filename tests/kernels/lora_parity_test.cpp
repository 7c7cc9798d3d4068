// LoRA's kernels against the CPU backend and fp64.
#include "kernels/cuda/launchers.h"
#include "tests/kernels/parity.h"

namespace facet::kernel_test {
namespace {

using op_test::cast, op_test::multiply, op_test::sum_of, op_test::transpose;

struct LoraCase {
  DType dtype;
  int64_t rows, inputs, outputs, rank, gap;

  operator ParityCase() const { return {dtype, rows, inputs, gap}; }
};

std::string name_of_lora_case(const testing::TestParamInfo<LoraCase>& info) {
  const auto& [dtype, rows, inputs, outputs, rank, gap] = info.param;
  return fmt::format("{}_{}x{}x{}r{}_gap{}", name_of(dtype), rows, inputs, outputs, rank, gap);
}
void PrintTo(const LoraCase& c, std::ostream* out) { *out << c.rows << " rows, rank " << c.rank; }

std::vector<LoraCase> lora_cases() {
  struct Sizes {
    int64_t rows, inputs, outputs, rank, gap;
  };
  const Sizes all[] = {
      {1, 1, 1, 1, 0},      {1, 257, 97, 8, 1},    {7, 97, 257, 7, 2},    {97, 7, 97, 16, 3},
      {257, 257, 97, 4, 1}, {33, 40, 97, 256, 0},                         // without tensor cores
      {1, 8, 8, 8, 0},      {7, 64, 72, 16, 8},    {7, 104, 40, 24, 16},  // with them
      {97, 136, 256, 8, 8}, {257, 128, 72, 64, 0}, {65, 72, 136, 72, 8},  {130, 64, 64, 128, 0},
      {33, 40, 72, 32, 0},  {530, 16, 24, 8, 0},   {3, 4096, 4096, 16, 0}};
  std::vector<LoraCase> cases;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    for (const auto& [rows, inputs, outputs, rank, gap] : all)
      if (!every_access_is_watched() || rows * (inputs + outputs) * rank < 200'000)
        cases.push_back({dtype, rows, inputs, outputs, rank, gap});
  return cases;
}

// Of Llama-2-7b: q, k, v and o; gate and up; down. `make check-kernels-full`.
std::vector<LoraCase> real_lora_cases() {
  std::vector<LoraCase> cases;
  for (const ParityCase& c : real_cases({{8192, 4096}, {1024, 4096}, {1024, 11008}}))
    cases.push_back(
        {c.dtype, c.rows, c.cols, c.rows == 1024 && c.cols == 4096 ? 11008 : 4096, 16, 0});
  return cases;
}

class LoraParity : public ParityRig, public testing::WithParamInterface<LoraCase> {
 protected:
  LoraParity() : ParityRig(GetParam()) {}

  static constexpr float kScale = 0.75f;
  const int64_t i_ = GetParam().inputs, o_ = GetParam().outputs, r_ = GetParam().rank;
  ParityMatrix& x_ = matrix("x", i_, Role::kIn);
  ParityMatrix& right_ = add("right", i_, r_, 0, dtype_, Role::kIn);
  ParityMatrix& left_ = add("left", r_, o_, 0, dtype_, Role::kIn);

  template <typename T>
  std::vector<T> scaled(std::vector<T> values) const {
    for (T& value : values) value *= T(kScale);
    return values;
  }
  static Values times(Values values, double factor) {
    for (double& value : values) value *= factor;
    return values;
  }
  // The sums of gradients begin with random values times `start`.
  void check_backward(ParityMatrix& dy, float start);
  // What is left of fp32 numbers between two products: u is stored in the activations' type, du on
  // tensor cores as two numbers of that type.
  std::vector<float> stored(const std::vector<float>& u) const {
    return cast<float>(rounded(Values(u.begin(), u.end()), dtype_));
  }
  std::vector<float> split(std::vector<float> du) const {
    const std::vector<float> upper = stored(du);
    for (size_t at = 0; at < du.size(); ++at) du[at] -= upper[at];
    return sum_of(upper, stored(du));
  }
};

TEST_P(LoraParity, Forward) {
  ParityMatrix& y = matrix("y", o_, Role::kInOut);
  ParityMatrix& u = matrix("u", r_, Role::kOut);
  run_kernels([&] {
    cuda::lora_forward_accumulate(y.device(), u.device(), x_.device(), right_.device(),
                                  left_.device(), kScale, stream_);
  });
  cpu().lora_forward_accumulate(y.host(), u.host(), x_.host(), right_.host(), left_.host(), kScale);
  const auto product = multiply(x_.start(), right_.start(), n_, i_, r_);
  const auto naive = multiply(cast<float>(x_.start()), cast<float>(right_.start()), n_, i_, r_);
  expect_parity(u, product, naive);
  expect_parity(y, sum_of(scaled(multiply(product, left_.start(), n_, r_, o_)), y.start()),
                sum_of(scaled(multiply(stored(naive), cast<float>(left_.start()), n_, r_, o_)),
                       cast<float>(y.start())));
}

void LoraParity::check_backward(ParityMatrix& dy, float start) {
  ParityMatrix& u = matrix("u", r_, Role::kIn);
  ParityMatrix& dx = matrix("dx", i_, Role::kInOut);
  ParityMatrix& dright = add("dright", i_, r_, 0, DType::kF32, Role::kInOut);
  ParityMatrix& dleft = add("dleft", r_, o_, 0, DType::kF32, Role::kInOut);
  ParityMatrix& du = add("du", n_, r_, gap_, DType::kF32, Role::kOut);
  for (ParityMatrix* total : {&dx, &dright, &dleft}) total->set(times(total->start(), start));
  run_kernels([&] {
    cuda::lora_backward_accumulate(dx.device(), dright.device(), dleft.device(), du.device(),
                                   dy.device(), x_.device(), u.device(), right_.device(),
                                   left_.device(), kScale, stream_);
  });
  cpu().lora_backward_accumulate(dx.host(), dright.host(), dleft.host(), du.host(), dy.host(),
                                 x_.host(), u.host(), right_.host(), left_.host(), kScale);
  const auto du_of = [&](auto zero) {
    using T = decltype(zero);
    return scaled(
        multiply(cast<T>(dy.start()), transpose(cast<T>(left_.start()), r_, o_), n_, o_, r_));
  };
  // dx, dright, dleft
  const auto gradients = [&](const auto& du) {
    using T = typename std::decay_t<decltype(du)>::value_type;
    const auto across = [&](const ParityMatrix& a, int64_t cols, const std::vector<T>& b,
                            int64_t b_cols) {
      return multiply(transpose(cast<T>(a.start()), n_, cols), b, cols, n_, b_cols);
    };
    return std::array{
        sum_of(multiply(du, transpose(cast<T>(right_.start()), i_, r_), n_, r_, i_),
               cast<T>(dx.start())),
        sum_of(across(x_, i_, du, r_), cast<T>(dright.start())),
        sum_of(scaled(across(u, r_, cast<T>(dy.start()), o_)), cast<T>(dleft.start()))};
  };
  const auto exact = gradients(du_of(0.0));
  const auto naive = gradients(split(du_of(0.0f)));
  expect_parity(dx, exact[0], naive[0], kGradientFactor);
  expect_parity(dright, exact[1], naive[1], kGradientFactor);
  expect_parity(dleft, exact[2], naive[2], kGradientFactor);
}

TEST_P(LoraParity, Backward) { check_backward(matrix("dy", o_, Role::kIn), 1); }

// In fp16 their du is subnormal.
TEST_P(LoraParity, BackwardOfTinyGradients) {
  ParityMatrix& dy = matrix("dy", o_, Role::kIn);
  dy.set(rounded(times(dy.start(), 1e-5), dtype_));
  check_backward(dy, 0);
}

TEST_P(LoraParity, AbsentGradientsChangeNoOtherBit) {
  ParityMatrix& dy = matrix("dy", o_, Role::kIn);
  ParityMatrix& u = matrix("u", r_, Role::kIn);
  ParityMatrix& dx = matrix("dx", i_, Role::kInOut);
  ParityMatrix& dright = add("dright", i_, r_, 0, DType::kF32, Role::kInOut);
  ParityMatrix& dleft = add("dleft", r_, o_, 0, DType::kF32, Role::kInOut);
  ParityMatrix& du = add("du", n_, r_, gap_, DType::kF32, Role::kOut);
  ParityMatrix* const all[] = {&dx, &dright, &dleft};
  const auto run = [&](std::array<bool, 3> present) {
    const auto operand = [&](size_t at) {
      all[at]->upload();
      return present[at] ? all[at]->device() : cuda::Operand{};
    };
    cuda::lora_backward_accumulate(operand(0), operand(1), operand(2), du.device(), dy.device(),
                                   x_.device(), u.device(), right_.device(), left_.device(), kScale,
                                   stream_);
  };
  run({true, true, true});
  const std::array whole = {dx.of_gpu(), dright.of_gpu(), dleft.of_gpu()};
  for (size_t only = 0; only < 3; ++only) {
    std::array<bool, 3> present{};
    present[only] = true;
    run(present);
    for (size_t at = 0; at < 3; ++at)
      EXPECT_TRUE(same_bits(all[at]->of_gpu(), at == only ? whole[at] : all[at]->start()));
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, LoraParity, testing::ValuesIn(lora_cases()), name_of_lora_case);
INSTANTIATE_TEST_SUITE_P(RealSizes, LoraParity, testing::ValuesIn(real_lora_cases()),
                         name_of_lora_case);

}  // namespace
}  // namespace facet::kernel_test
