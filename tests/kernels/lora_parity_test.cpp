// LoRA's kernels against the CPU backend and fp64.
#include <fmt/format.h>

#include "tests/kernels/lora_backward.h"
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

constexpr float kScale = 0.75f;

template <typename T>
std::vector<T> scaled(std::vector<T> values) {
  for (T& value : values) value *= T(kScale);
  return values;
}

// What is left of fp32 numbers between two products: u is stored in the activations' type, du on
// tensor cores as two numbers of that type.
std::vector<float> stored(const std::vector<float>& u, DType dtype) {
  return cast<float>(rounded(Values(u.begin(), u.end()), dtype));
}
std::vector<float> split(std::vector<float> du, DType dtype) {
  const std::vector<float> upper = stored(du, dtype);
  for (size_t at = 0; at < du.size(); ++at) du[at] -= upper[at];
  return sum_of(upper, stored(du, dtype));
}

// Of GPUs for which any rows are enough, and on which up to 64 rows have a launch of their own for
// the outputs, with four blocks for the columns.
constexpr int kOneMultiprocessor = 1, kTwoMultiprocessors = 2;

// Of Llama-2-7b: q, k, v and o; gate and up; down. `make check-kernels-full`.
std::vector<LoraCase> real_lora_cases() {
  std::vector<LoraCase> cases;
  for (const ParityCase& c : real_cases({{8192, 4096}, {1024, 4096}, {1024, 11008}}))
    cases.push_back(
        {c.dtype, c.rows, c.cols, c.rows == 1024 && c.cols == 4096 ? 11008 : 4096, 16, 0});
  return cases;
}

// Both operators of backward. dx is added to.
void backward_with(Backend& ops, const Tensor& dx, const Tensor& dy, const Tensor& x,
                   const LoraPart& part) {
  ops.lora_backward_input_accumulate(dx, part.dleft, part.du, dy, part.u, part.right, part.left,
                                     kScale);
  ops.lora_backward_right(x, {&part, 1});
}

class LoraParity : public ParityRig, public testing::WithParamInterface<LoraCase> {
 protected:
  LoraParity() : ParityRig(GetParam()) {}

  const int64_t i_ = GetParam().inputs, o_ = GetParam().outputs, r_ = GetParam().rank;
  ParityMatrix& x_ = matrix("x", i_, Role::kIn);
  ParityMatrix& right_ = add("right", i_, r_, 0, dtype_, Role::kIn);
  ParityMatrix& left_ = add("left", r_, o_, 0, dtype_, Role::kIn);

  static Values times(Values values, double factor) {
    for (double& value : values) value *= factor;
    return values;
  }
  // The sums of gradients begin with random values times `start`; dx has that gap.
  void check_backward(ParityMatrix& dy, float start, int64_t gap_of_dx);
  void check_backward(ParityMatrix& dy, float start) { check_backward(dy, start, gap_); }
};

TEST_P(LoraParity, Forward) {
  ParityMatrix& y = matrix("y", o_, Role::kInOut);
  ParityMatrix& u = matrix("u", r_, Role::kOut);
  run_kernels([&] {
    const cuda::LoraOperands part{y.device(), y.device(), u.device(), right_.device(),
                                  left_.device()};
    cuda::lora_forward({&part, 1}, x_.device(), kScale, cuda::LoraU::kComputed, kOneMultiprocessor,
                       stream_);
  });
  cpu().lora_forward_accumulate(y.host(), u.host(), x_.host(), right_.host(), left_.host(), kScale);
  const auto product = multiply(x_.start(), right_.start(), n_, i_, r_);
  const auto naive = multiply(cast<float>(x_.start()), cast<float>(right_.start()), n_, i_, r_);
  expect_parity(u, product, naive);
  expect_parity(
      y, sum_of(scaled(multiply(product, left_.start(), n_, r_, o_)), y.start()),
      sum_of(scaled(multiply(stored(naive, dtype_), cast<float>(left_.start()), n_, r_, o_)),
             cast<float>(y.start())));
}

void LoraParity::check_backward(ParityMatrix& dy, float start, int64_t gap_of_dx) {
  ParityMatrix& u = matrix("u", r_, Role::kIn);
  ParityMatrix& dx = add("dx", n_, i_, gap_of_dx, dtype_, Role::kInOut);
  ParityMatrix& dright = add("dright", i_, r_, 0, DType::kF32, Role::kInOut);
  ParityMatrix& dleft = add("dleft", r_, o_, 0, DType::kF32, Role::kInOut);
  ParityMatrix& du = add("du", n_, r_, gap_, DType::kF32, Role::kOut);
  for (ParityMatrix* total : {&dx, &dright, &dleft}) total->set(times(total->start(), start));
  run_kernels([&] {
    const cuda::LoraOperands part{dy.device(),    {},          u.device(),      right_.device(),
                                  left_.device(), du.device(), dright.device(), dleft.device()};
    lora_backward_input({&part, 1}, dx.device(), dx.device(), kScale, kOneMultiprocessor, stream_);
    cuda::lora_backward_right({&part, 1}, x_.device(), stream_);
  });
  backward_with(cpu(), dx.host(), dy.host(), x_.host(),
                {.u = u.host(),
                 .right = right_.host(),
                 .left = left_.host(),
                 .du = du.host(),
                 .dright = dright.host(),
                 .dleft = dleft.host()});
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
  const auto naive = gradients(split(du_of(0.0f), dtype_));
  expect_parity(dx, exact[0], naive[0], kGradientFactor);
  expect_parity(dright, exact[1], naive[1], kGradientFactor);
  expect_parity(dleft, exact[2], naive[2], kGradientFactor);
}

TEST_P(LoraParity, Backward) { check_backward(matrix("dy", o_, Role::kIn), 1); }

// du from kernels without tensor cores, for gradients with them.
TEST_P(LoraParity, BackwardWithAnInputsGradientInAnotherLayout) {
  check_backward(matrix("dy", o_, Role::kIn), 1, 8 * gap_ + 1);
}

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
    const cuda::Operand of_dx = operand(0);
    const cuda::LoraOperands part{dy.device(),    {},          u.device(), right_.device(),
                                  left_.device(), du.device(), operand(1), operand(2)};
    lora_backward_input({&part, 1}, of_dx, of_dx, kScale, kOneMultiprocessor, stream_);
    cuda::lora_backward_right({&part, 1}, x_.device(), stream_);
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

// ---- layers with one input, whose outputs stand side by side

struct PartsCase {
  DType dtype;
  int64_t rows, inputs, rank, gap;
  std::vector<int64_t> outputs;

  operator ParityCase() const { return {dtype, rows, inputs, gap}; }
};

std::string name_of_parts_case(const testing::TestParamInfo<PartsCase>& info) {
  const PartsCase& c = info.param;
  return fmt::format("{}_{}x{}x{}r{}_gap{}", name_of(c.dtype), c.rows, c.inputs,
                     fmt::join(c.outputs, "and"), c.rank, c.gap);
}
void PrintTo(const PartsCase& c, std::ostream* out) { *out << c.rows << " rows, rank " << c.rank; }

std::vector<PartsCase> parts_cases() {
  const PartsCase all[] = {
      {{}, 7, 17, 12, 3, {9, 5, 31}},                                      // without tensor cores
      {{}, 5, 16, 8, 0, {8, 8, 8, 8}}, {{}, 7, 136, 16, 8, {40, 8, 136}},  // with them
      {{}, 5, 648, 8, 0, {648, 16}},   {{}, 65, 72, 8, 0, {40, 24, 64}},
      {{}, 130, 64, 16, 0, {72, 64}},  {{}, 33, 200, 32, 8, {136, 40, 24}},
      {{}, 66, 72, 24, 0, {40, 136}},  {{}, 97, 40, 64, 0, {72, 24, 32}},
      {{}, 33, 40, 72, 8, {24, 16}},   {{}, 600, 16, 16, 8, {520, 1032, 8}}};
  std::vector<PartsCase> cases;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    for (PartsCase c : all) {
      if (every_access_is_watched() && (dtype == DType::kF16 || c.rows > 66)) continue;
      c.dtype = dtype;
      cases.push_back(c);
    }
  return cases;
}

class LoraPartsParity : public ParityRig, public testing::WithParamInterface<PartsCase> {
 protected:
  struct Part {
    int64_t begin, outputs;
    ParityMatrix &right, &left, &u;
  };

  LoraPartsParity() : ParityRig(GetParam()) {}

  std::vector<Part> parts(Role role_of_u) {
    std::vector<Part> all;
    int64_t begin = 0;
    for (const int64_t outputs : GetParam().outputs) {
      const std::string of = std::to_string(all.size());
      all.push_back({begin, outputs, add("right" + of, i_, r_, 0, dtype_, Role::kIn),
                     add("left" + of, r_, outputs, 0, dtype_, Role::kIn),
                     matrix("u" + of, r_, role_of_u)});
      begin += outputs;
    }
    return all;
  }
  int64_t outputs() const {
    int64_t sum = 0;
    for (const int64_t outputs : GetParam().outputs) sum += outputs;
    return sum;
  }
  static cuda::Operand columns(const cuda::Operand& of, const Part& part) {
    cuda::Operand block = of;
    block.data = static_cast<char*>(of.data) + part.begin * size_of(of.dtype);
    block.cols = part.outputs;
    return block;
  }
  // The columns of a part of dense values (N,O).
  Values columns(const Values& of, const Part& part) const {
    Values block;
    for (int64_t n = 0; n < n_; ++n) {
      const auto first = of.begin() + n * outputs() + part.begin;
      block.insert(block.end(), first, first + part.outputs);
    }
    return block;
  }
  template <typename T>
  void put(std::vector<T>& to, const Part& part, const std::vector<T>& block) const {
    for (int64_t n = 0; n < n_; ++n)
      std::copy_n(block.begin() + n * part.outputs, part.outputs,
                  to.begin() + n * outputs() + part.begin);
  }
  void check_forward(ParityMatrix* residual, int multiprocessors);
  void check_backward(int multiprocessors);

  const int64_t i_ = GetParam().inputs, r_ = GetParam().rank;
  ParityMatrix& x_ = matrix("x", i_, Role::kIn);
};

void LoraPartsParity::check_forward(ParityMatrix* residual, int multiprocessors) {
  std::vector<Part> all = parts(Role::kOut);
  ParityMatrix& y = matrix("y", outputs(), Role::kOut);
  run_kernels([&] {
    std::vector<cuda::LoraOperands> operands;
    for (const Part& part : all)
      operands.push_back({columns(y.device(), part),
                          residual ? columns(residual->device(), part) : cuda::Operand{},
                          part.u.device(), part.right.device(), part.left.device()});
    cuda::lora_forward(operands, x_.device(), kScale, cuda::LoraU::kComputed, multiprocessors,
                       stream_);
  });
  if (residual)
    cpu().copy(y.host(), residual->host());
  else
    cpu().fill(y.host(), 0);
  Values exact = residual ? residual->start() : Values(static_cast<size_t>(n_ * outputs()));
  auto naive = cast<float>(exact);
  for (const Part& part : all) {
    cpu().lora_forward_accumulate(y.host().column_block(part.begin, part.outputs), part.u.host(),
                                  x_.host(), part.right.host(), part.left.host(), kScale);
    const Values before = columns(exact, part);
    const auto u = multiply(x_.start(), part.right.start(), n_, i_, r_);
    const auto naive_u =
        multiply(cast<float>(x_.start()), cast<float>(part.right.start()), n_, i_, r_);
    expect_parity(part.u, u, naive_u);
    put(exact, part, sum_of(scaled(multiply(u, part.left.start(), n_, r_, part.outputs)), before));
    put(naive, part,
        sum_of(scaled(multiply(stored(naive_u, dtype_), cast<float>(part.left.start()), n_, r_,
                               part.outputs)),
               cast<float>(before)));
  }
  expect_parity(y, exact, naive);
}

TEST_P(LoraPartsParity, ForwardOverwritesTheOutput) { check_forward(nullptr, kOneMultiprocessor); }

TEST_P(LoraPartsParity, ForwardAddsToTheResidual) {
  check_forward(&matrix("residual", outputs(), Role::kIn), kOneMultiprocessor);
}

TEST_P(LoraPartsParity, ForwardOfFewRowsOnALargeGpu) {
  check_forward(nullptr, kTwoMultiprocessors);
}

// Without x, on any number of blocks.
TEST_P(LoraPartsParity, ForwardFromTheFirstProductHasTheSameBits) {
  std::vector<Part> all = parts(Role::kOut);
  ParityMatrix &y = matrix("y", outputs(), Role::kOut), &again = matrix("y", outputs(), Role::kOut);
  const auto operands = [&](ParityMatrix& of) {
    std::vector<cuda::LoraOperands> operands;
    for (const Part& part : all)
      operands.push_back({columns(of.device(), part),
                          {},
                          part.u.device(),
                          part.right.device(),
                          part.left.device()});
    return operands;
  };
  cuda::Operand no_x = x_.device();
  no_x.data = nullptr;
  for (const int multiprocessors : {kOneMultiprocessor, kTwoMultiprocessors}) {
    run_kernels([&] {
      cuda::lora_forward(operands(y), x_.device(), kScale, cuda::LoraU::kComputed, multiprocessors,
                         stream_);
      cuda::lora_forward(operands(again), no_x, kScale, cuda::LoraU::kGiven, multiprocessors,
                         stream_);
    });
    EXPECT_TRUE(same_bits(again.of_gpu(), y.of_gpu()));
    again.upload();
  }
}

void LoraPartsParity::check_backward(int multiprocessors) {
  std::vector<Part> all = parts(Role::kIn);
  ParityMatrix &dy = matrix("dy", outputs(), Role::kIn), &dx = matrix("dx", i_, Role::kOut);
  std::vector<ParityMatrix*> du, dright, dleft;
  for (const Part& part : all) {
    du.push_back(&add("du", n_, r_, gap_, DType::kF32, Role::kOut));
    dright.push_back(&add("dright", i_, r_, 0, DType::kF32, Role::kInOut));
    dleft.push_back(&add("dleft", r_, part.outputs, 0, DType::kF32, Role::kInOut));
  }
  run_kernels([&] {
    std::vector<cuda::LoraOperands> operands;
    for (size_t p = 0; p < all.size(); ++p)
      operands.push_back({columns(dy.device(), all[p]),
                          {},
                          all[p].u.device(),
                          all[p].right.device(),
                          all[p].left.device(),
                          du[p]->device(),
                          dright[p]->device(),
                          dleft[p]->device()});
    lora_backward_input(operands, dx.device(), {}, kScale, multiprocessors, stream_);
    cuda::lora_backward_right(operands, x_.device(), stream_);
  });
  cpu().fill(dx.host(), 0);
  Values exact_dx(static_cast<size_t>(n_ * i_));
  std::vector<float> naive_dx(exact_dx.size());
  for (size_t p = 0; p < all.size(); ++p) {
    const Part& part = all[p];
    const int64_t o = part.outputs;
    const Values dy_part = columns(dy.start(), part);
    backward_with(cpu(), dx.host(), dy.host().column_block(part.begin, o), x_.host(),
                  {.u = part.u.host(),
                   .right = part.right.host(),
                   .left = part.left.host(),
                   .du = du[p]->host(),
                   .dright = dright[p]->host(),
                   .dleft = dleft[p]->host()});
    const auto du_of = [&](auto zero) {
      using T = decltype(zero);
      return scaled(
          multiply(cast<T>(dy_part), transpose(cast<T>(part.left.start()), r_, o), n_, o, r_));
    };
    const auto dx_of = [&](const auto& of) {
      using T = typename std::decay_t<decltype(of)>::value_type;
      return multiply(of, transpose(cast<T>(part.right.start()), i_, r_), n_, r_, i_);
    };
    const auto dright_of = [&](const auto& of) {
      using T = typename std::decay_t<decltype(of)>::value_type;
      return sum_of(multiply(transpose(cast<T>(x_.start()), n_, i_), of, i_, n_, r_),
                    cast<T>(dright[p]->start()));
    };
    const auto dleft_of = [&](auto zero) {
      using T = decltype(zero);
      return sum_of(
          scaled(multiply(transpose(cast<T>(part.u.start()), n_, r_), cast<T>(dy_part), r_, n_, o)),
          cast<T>(dleft[p]->start()));
    };
    const auto exact = du_of(0.0);
    const auto naive = split(du_of(0.0f), dtype_);
    exact_dx = sum_of(exact_dx, dx_of(exact));
    naive_dx = sum_of(naive_dx, dx_of(naive));
    expect_parity(*dright[p], dright_of(exact), dright_of(naive), kGradientFactor);
    expect_parity(*dleft[p], dleft_of(0.0), dleft_of(0.0f), kGradientFactor);
  }
  expect_parity(dx, exact_dx, naive_dx, kGradientFactor);
}

TEST_P(LoraPartsParity, Backward) { check_backward(kOneMultiprocessor); }

TEST_P(LoraPartsParity, BackwardOfFewRowsOnALargeGpu) { check_backward(kTwoMultiprocessors); }

INSTANTIATE_TEST_SUITE_P(Sizes, LoraPartsParity, testing::ValuesIn(parts_cases()),
                         name_of_parts_case);

}  // namespace
}  // namespace facet::kernel_test
