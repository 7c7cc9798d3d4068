// Every operator of the CUDA backend against the CPU backend, on the same values, in all types.
#include "kernels/cuda/backend.h"

#include <algorithm>

#include "device/arena.h"
#include "kernels/cpu/backend.h"
#include "ops/half_storage.h"
#include "tests/kernels/mirrored.h"
#include "tests/ops/op_cases.h"

namespace facet::kernel_test {
namespace {

using op_test::kOpCases;
using op_test::OpCase;
using op_test::Operands;
using op_test::relative_error;
using op_test::Role;
using op_test::StoredMatrix;
using op_test::Values;

constexpr int64_t kPanelBytes = int64_t{1} << 28;  // reserved, not touched

bool named(const OpCase& op, const char* part) {
  return std::string(op.name).find(part) != std::string::npos;
}

struct Setting {
  OpCase op;
  DType dtype;
};

void PrintTo(const Setting& setting, std::ostream* out) {
  *out << setting.op.name << " " << name_of(setting.dtype);
}

constexpr auto kAllTypes = {DType::kF32, DType::kBF16, DType::kF16};

std::vector<Setting> settings_of(std::initializer_list<DType> dtypes) {
  std::vector<Setting> settings;
  for (const OpCase& op : kOpCases)
    for (const DType dtype : dtypes)
      if (!named(op, "many_blocks")) settings.push_back({op, dtype});
  return settings;
}

// Rows and columns. The builds that watch every access take the small ones.
std::vector<std::pair<int64_t, int64_t>> sizes_of(const OpCase& op) {
  const bool watched = every_access_is_watched();
  // Heads of these widths: of the tiny model, of CLIP-L/14, of LLaMA-7B.
  if (named(op, "attention") && watched) return {{7, 5}, {7, 64}};
  if (named(op, "attention")) return {{97, 7}, {33, 32}, {33, 64}, {33, 128}};
  if (watched) return {{7, 17}};
  return {{97, 7}, {7, 97}, {257, 1}, {1, 257}, {3, 1032}};
}

// The rounding of 16-bit operands; fp32 ones hold values of bf16 too.
DType rounding_of(DType dtype) { return is_16_bit(dtype) ? dtype : DType::kBF16; }

Values rounded(Values values, DType dtype) {
  for (double& value : values)
    value = float_from_16_bits(round_to_16_bits(static_cast<float>(value), dtype), dtype);
  return values;
}

class BackendOp : public testing::TestWithParam<Setting> {
 protected:
  CpuBackend cpu_{1};
  HalfStorage half_{cpu_, kPanelBytes};
  CudaBackend cuda_{kSmallSizes};

  Backend& cpu() { return is_16_bit(GetParam().dtype) ? static_cast<Backend&>(half_) : cpu_; }
};

// fp32 sums in another order, and a score of attention whose rounding the softmax enlarges. The
// worst that was measured is 6e-7.
constexpr double kOtherOrder = 2e-6;
// Of LoRA's du, which is two numbers of 16 bits: in bf16 its relative error is at most 2^-17. The
// worst that was measured of what it multiplies is 4.2e-6.
constexpr double kTwoHalves = 8e-6;

TEST_P(BackendOp, IsThatOfTheCpuBackend) {
  const auto& [op, dtype] = GetParam();
  const DType rounding = rounding_of(dtype);
  Mirrored mirrored(cuda_);
  for (const auto& [n, d] : sizes_of(op)) {
    Operands exact(DType::kF32, rounding), stored(dtype, rounding);
    op.run(cpu_, exact, n, d);
    op.run(mirrored, stored, n, d);
    EXPECT_EQ(mirrored.calls(), 1) << "an operator that calls operators is counted twice";
    mirrored.finish();
    for (const auto& [name, matrix] : stored.outputs()) {
      const Values expected = exact.outputs().at(name)->values();
      double bound = kOtherOrder;
      // What 16 bits may add: one rounding of the output; where tensor cores multiply the
      // probabilities of attention, one of these too.
      if (is_16_bit(matrix->dtype()))
        bound += (name[0] == 'd'             ? 3
                  : name.starts_with("u of") ? op_test::kOfRounded
                                             : 2) *
                 relative_error(rounded(expected, dtype), expected);
      else if (name.starts_with("dright") && is_16_bit(dtype))
        bound += kTwoHalves;
      EXPECT_LE(relative_error(matrix->values(), expected), bound) << name << " " << n << "x" << d;
    }
  }
}

// What an operator wrote to stderr on its first and its second call.
std::pair<std::string, std::string> warnings_of(const char* name, DType dtype, int64_t d) {
  const auto* op =
      std::ranges::find_if(kOpCases, [&](const OpCase& c) { return c.name == std::string(name); });
  CudaBackend cuda(kSmallSizes);
  const auto run = [&] {
    Mirrored mirrored(cuda);
    Operands operands(dtype, DType::kBF16);
    testing::internal::CaptureStderr();
    op->run(mirrored, operands, 7, d);
    mirrored.finish();
    return testing::internal::GetCapturedStderr();
  };
  const std::string first = run();
  return {first, run()};
}

TEST(Backend, SaysOnceThatAShapeHasNoKernelOnTensorCores) {
  for (const char* op : {"attention_forward", "lora_forward_accumulate"}) {
    const auto [first, second] = warnings_of(op, DType::kBF16, 5);
    EXPECT_NE(first.find("without tensor cores"), std::string::npos) << op << first;
    EXPECT_EQ(second, "") << op;
    EXPECT_EQ(warnings_of(op, DType::kF32, 5).first, "") << op;
  }
  for (const int width : kTensorCoreWidths)
    EXPECT_EQ(warnings_of("attention_forward", DType::kF16, width).first, "") << width;
}

// A rank may have no image, no labelled row, no token at all.
TEST_P(BackendOp, NoRowsLeaveWhatTheCpuBackendLeaves) {
  const auto& [op, dtype] = GetParam();
  Mirrored mirrored(cuda_);
  Operands expected(dtype, rounding_of(dtype)), actual(dtype, rounding_of(dtype));
  op.run(cpu(), expected, 0, 7);
  op.run(mirrored, actual, 0, 7);
  mirrored.finish();
  // Cases that move a fixed number of rows, and position grids, are no different here.
  const double bound = is_16_bit(dtype) ? 1e-2 : kOtherOrder;
  for (const auto& [name, matrix] : actual.outputs()) {
    const Values values = expected.outputs().at(name)->values();
    if (values.empty()) continue;
    EXPECT_LE(relative_error(matrix->values(), values), bound) << name;
  }
}

std::string name_of_setting(const testing::TestParamInfo<Setting>& info) {
  return std::string(info.param.op.name) + "_" + name_of(info.param.dtype);
}

INSTANTIATE_TEST_SUITE_P(Ops, BackendOp, testing::ValuesIn(settings_of(kAllTypes)),
                         name_of_setting);

// ---- outputs that are inputs

class BackendAlias : public testing::TestWithParam<DType> {
 protected:
  static constexpr int64_t kRows = 33, kCols = 24;
  const DType dtype_ = GetParam();
  CudaBackend cuda_{kSmallSizes};
  Mirrored ops_{cuda_};

  // op(operands, output, input) with two tensors and with one: the same words.
  template <typename Op>
  void expect_same(const Op& op) {
    Operands apart(dtype_, rounding_of(dtype_)), together(dtype_, rounding_of(dtype_));
    op(apart, apart.out("y", kRows, kCols), apart.in("x", kRows, kCols));
    const Tensor both = together.in_out("x", kRows, kCols);
    op(together, both, both);
    ops_.finish();
    for (const auto& [name, matrix] : together.outputs())
      EXPECT_EQ(matrix->values(), apart.outputs().at(name == "x" ? "y" : name)->values()) << name;
  }
};

TEST_P(BackendAlias, ALinearLayersResidualMayBeItsOutput) {
  expect_same([&](Operands& make, Tensor y, Tensor residual) {
    ops_.linear_forward(y, make.in("in", kRows, 9), make.in("w", kCols, 9), make.vector("b", kCols),
                        residual);
  });
}

TEST_P(BackendAlias, ANormsGradientMayBeTheResidualsOwn) {
  expect_same([&](Operands& make, Tensor dx, Tensor dresidual) {
    ops_.rms_norm_backward(dx, Tensor(), Tensor(), make.in("dy", kRows, kCols),
                           make.in("in", kRows, kCols), make.vector("w", kCols),
                           make.fp32_vector("rstd", kRows, Role::kIn), dresidual);
  });
  expect_same([&](Operands& make, Tensor dx, Tensor dresidual) {
    ops_.layer_norm_backward(dx, Tensor(), Tensor(), make.in("dy", kRows, kCols),
                             make.in("in", kRows, kCols), make.vector("w", kCols),
                             make.fp32_vector("mean", kRows, Role::kIn),
                             make.fp32_vector("rstd", kRows, Role::kIn), dresidual);
  });
}

TEST_P(BackendAlias, AnActivationsGradientMayBeThatOfItsOutput) {
  for (const Activation activation :
       {Activation::kGelu, Activation::kGeluTanh, Activation::kQuickGelu})
    expect_same([&](Operands& make, Tensor dx, Tensor dy) {
      ops_.gelu_backward(dx, dy, make.in("in", kRows, kCols), activation);
    });
}

TEST_P(BackendAlias, WhatBackwardRebuildsMayTakeTheGradientsPlace) {
  expect_same([&](Operands& make, Tensor y, Tensor dy) {
    ops_.rms_norm_backward(make.out("dx", kRows, kCols),
                           make.fp32_vector("dw", kCols, Role::kInOut), y, dy,
                           make.in("in", kRows, kCols), make.vector("w", kCols),
                           make.fp32_vector("rstd", kRows, Role::kIn), Tensor());
  });
  expect_same([&](Operands& make, Tensor act, Tensor dact) {
    ops_.swiglu_backward(make.out("dgate_up", kRows, 2 * kCols), act, dact,
                         make.in("gate_up", kRows, 2 * kCols));
  });
}

TEST_P(BackendAlias, RowsMayBeAddedInPlace) {
  expect_same([&](Operands& make, Tensor y, Tensor x) {
    ops_.add_repeated_rows_forward(y, x, make.in("rows", 11, kCols));
  });
}

INSTANTIATE_TEST_SUITE_P(Types, BackendAlias,
                         testing::Values(DType::kF32, DType::kBF16, DType::kF16),
                         [](const auto& info) { return std::string(name_of(info.param)); });

// ---- what the cases leave out

TEST(Backend, AdamWRoundsItsCopy) {
  CudaBackend cuda(kSmallSizes);
  Mirrored ops(cuda);
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    Operands make(dtype, dtype);
    AdamWStep step;
    step.learning_rate = 0.01;
    const Tensor squares = make.fp32_vector("squares", 97, Role::kInOut);
    for (int64_t i = 0; i < 97; ++i) squares.f32()[i] *= squares.f32()[i];
    ops.adamw_step(make.fp32_vector("param", 97, Role::kInOut),
                   make.fp32_vector("exp_avg", 97, Role::kInOut), squares,
                   make.out_vector("copy", 97), make.fp32_vector("grad", 97, Role::kIn), step);
    ops.finish();
    EXPECT_EQ(make.outputs().at("copy")->values(),
              rounded(make.outputs().at("param")->values(), dtype));
  }
}

TEST(Backend, CopiesKeepTheGapsBetweenRows) {
  CudaBackend cuda(kSmallSizes);
  Mirrored ops(cuda);
  const Values values = op_test::random_values(5 * 7, "values");
  std::vector<float> in = op_test::cast<float>(values), out(in.size());
  StoredMatrix matrix(5, 7, 3, DType::kF32);
  ops.copy_from_host(matrix.tensor(), in.data());
  ops.copy_to_host(out.data(), matrix.tensor());
  ops.finish();
  EXPECT_EQ(matrix.values(), values);
  EXPECT_EQ(out, in);
}

// ---- what an operator refuses

template <typename Call>
void expect_refused(const Call& call) {
  try {
    call();
    ADD_FAILURE() << "was taken";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("in host memory"), std::string::npos) << error.what();
  }
}

TEST(Backend, RefusesHostMemory) {
  CudaBackend cuda(kSmallSizes);
  Arena arena("test", 1 << 12, cuda.memory());
  std::vector<float> memory(8);
  const Tensor host(memory.data(), {2, 4}, DType::kF32), host_row(memory.data(), {4}, DType::kF32),
      x = arena.tensor({2, 4}, DType::kF32);
  cuda.fill(x, 1);
  expect_refused([&] { cuda.fill(host, 0); });
  expect_refused([&] { cuda.sum_rows(host_row, x); });
  expect_refused([&] { cuda.copy_from_host(host, memory.data()); });
  expect_refused([&] { cuda.sum(host); });
  expect_refused([&] { cuda.gradient_statistics(host); });
}

}  // namespace
}  // namespace facet::kernel_test
