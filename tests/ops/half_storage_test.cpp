// Every operator with bf16 and fp16 operands against the same operator in fp32 on the same values:
// the fp32 one is held against fp64 in its own test, so all that 16 bits may add is one rounding of
// each output.
#include "ops/half_storage.h"

#include <string>

#include "kernels/cpu/backend.h"
#include "ops/null_backend.h"
#include "tests/ops/op_cases.h"

namespace facet::op_test {
namespace {

constexpr int64_t kPanelBytes = int64_t{1} << 28;  // reserved, not touched

struct Setting {
  OpCase op;
  DType dtype;
};

std::vector<Setting> all_settings() {
  std::vector<Setting> settings;
  for (const OpCase& op : kOpCases)
    for (const DType dtype : {DType::kBF16, DType::kF16}) settings.push_back({op, dtype});
  return settings;
}

Values rounded(Values values, DType dtype) {
  for (double& value : values)
    value = float_from_16_bits(round_to_16_bits(static_cast<float>(value), dtype), dtype);
  return values;
}

// Sums that are split differently from the reference's differ by a few fp32 roundings.
constexpr double kOtherOrder = 2e-6;

class HalfStorageOp : public testing::TestWithParam<Setting> {
 protected:
  CpuBackend cpu_{2};
};

TEST_P(HalfStorageOp, RoundsTheFp32ResultOnce) {
  const auto& [op, dtype] = GetParam();
  const std::string op_name = op.name;
  const bool is_attention = op_name.find("attention") != std::string::npos;
  const bool is_large = op_name.find("many_blocks") != std::string::npos;
  const bool is_of_two_operators = op_name.starts_with("lora_linear") ||
                                   op_name.ends_with("_turned") || op_name.ends_with("with_lora");
  // The last ones are several blocks of rows.
  for (const auto& [n, d] :
       {std::pair<int64_t, int64_t>{257, 1}, {97, 7}, {7, 97}, {1, 257}, {2801, 97}}) {
    if (n > 257 && dtype == DType::kF16) continue;  // once is enough
    if ((is_large && d != 7) || (is_attention && (n < 3 || n > 257))) continue;
    Operands exact(DType::kF32, dtype), stored(dtype, dtype);
    op.run(cpu_, exact, n, d);
    HalfStorage half(cpu_, kPanelBytes);
    op.run(half, stored, n, d);
    for (const auto& [name, matrix] : stored.outputs()) {
      const Values expected = exact.outputs().at(name)->values(), actual = matrix->values();
      if (matrix->dtype() == DType::kF32) {
        EXPECT_LE(relative_error(actual, expected), kOtherOrder) << name << " " << n << "x" << d;
        continue;
      }
      const double once = relative_error(rounded(expected, dtype), expected);
      const double factor = name[0] == 'd' ? 3 : name.starts_with("u of") ? op_test::kOfRounded : 2;
      EXPECT_LE(relative_error(actual, expected), factor * once + kOtherOrder)
          << name << " " << n << "x" << d;
      if (is_of_two_operators) continue;
      // Not merely small: the very words, but where another order of a sum crosses a tie.
      size_t different = 0;
      const Values words = rounded(expected, dtype);
      for (size_t i = 0; i < words.size(); ++i) different += words[i] != actual[i];
      EXPECT_LE(different, words.size() / 200) << name << " " << n << "x" << d;
    }
  }
}

// Measured over the null backend, the panels are exactly as large as those that are used.
TEST_P(HalfStorageOp, TakesThePanelsThatWereMeasured) {
  const auto& [op, dtype] = GetParam();
  for (const auto& [n, d] : {std::pair<int64_t, int64_t>{97, 7}, {257, 1}}) {
    NullBackend nothing;
    HalfStorage measured(nothing);
    Operands first(dtype, dtype), second(dtype, dtype);
    op.run(measured, first, n, d);
    HalfStorage half(cpu_, measured.panel_bytes());
    op.run(half, second, n, d);
    EXPECT_EQ(half.panel_bytes(), measured.panel_bytes());
    EXPECT_EQ(half.counts().calls, op.calls);
    EXPECT_EQ(measured.counts().calls, op.calls);
  }
}

TEST_P(HalfStorageOp, PassesFp32OperandsOn) {
  const auto& [op, dtype] = GetParam();
  if (dtype != DType::kBF16 || std::string(op.name).find("many_blocks") != std::string::npos)
    return;
  Operands direct(DType::kF32, dtype), through(DType::kF32, dtype);
  HalfStorage half(cpu_, 0);
  op.run(cpu_, direct, 97, 7);
  op.run(half, through, 97, 7);
  for (const auto& [name, matrix] : through.outputs())
    EXPECT_EQ(matrix->values(), direct.outputs().at(name)->values()) << name;
}

INSTANTIATE_TEST_SUITE_P(Ops, HalfStorageOp, testing::ValuesIn(all_settings()),
                         [](const auto& info) {
                           return std::string(info.param.op.name) + "_" + name_of(info.param.dtype);
                         });

// ---- what 16 bits must not hide

class HalfStorageType : public testing::TestWithParam<DType> {
 protected:
  CpuBackend cpu_{2};
  HalfStorage ops_{cpu_, kPanelBytes};
};

TEST_P(HalfStorageType, AnOutputMayBeAnInput) {
  const DType dtype = GetParam();
  const int64_t n = 600, d = 513;  // several blocks of rows
  Operands apart(dtype, dtype), together(dtype, dtype);
  const Tensor y = apart.out("y", n, d), residual = apart.in("r", n, d);
  ops_.linear_forward(y, apart.in("x", n, 9), apart.in("w", d, 9), Tensor(), residual);
  const Tensor in_place = together.in_out("r", n, d);
  ops_.linear_forward(in_place, together.in("x", n, 9), together.in("w", d, 9), Tensor(), in_place);
  EXPECT_EQ(together.outputs().at("r")->values(), apart.outputs().at("y")->values());

  const auto norm_backward = [&](Operands& make, const Tensor& dx, const Tensor& dresidual,
                                 const Tensor& normed, const Tensor& dnormed) {
    ops_.rms_norm_backward(dx, Tensor(), normed, dnormed, make.in("x", n, d), make.vector("w", d),
                           make.fp32_vector("rstd", n, Role::kIn), dresidual);
  };
  norm_backward(apart, apart.out("dx", n, d), apart.in("dr", n, d), apart.out("normed", n, d),
                apart.in("dn", n, d));
  const Tensor dx = together.in_out("dr", n, d), dnormed = together.in_out("dn", n, d);
  norm_backward(together, dx, dx, dnormed, dnormed);
  EXPECT_EQ(together.outputs().at("dr")->values(), apart.outputs().at("dx")->values());
  EXPECT_EQ(together.outputs().at("dn")->values(), apart.outputs().at("normed")->values());

  ops_.swiglu_backward(apart.out("dgu", n, 2 * d), apart.out("act", n, d), apart.in("dact", n, d),
                       apart.in("gu", n, 2 * d));
  const Tensor dact = together.in_out("dact", n, d);
  ops_.swiglu_backward(together.out("dgu", n, 2 * d), dact, dact, together.in("gu", n, 2 * d));
  EXPECT_EQ(together.outputs().at("dact")->values(), apart.outputs().at("act")->values());
  EXPECT_EQ(together.outputs().at("dgu")->values(), apart.outputs().at("dgu")->values());

  ops_.gelu_backward(apart.out("g", n, d), apart.in("dy2", n, d), apart.in("x2", n, d),
                     Activation::kGelu);
  const Tensor dy = together.in_out("dy2", n, d);
  ops_.gelu_backward(dy, dy, together.in("x2", n, d), Activation::kGelu);
  EXPECT_EQ(together.outputs().at("dy2")->values(), apart.outputs().at("g")->values());

  ops_.add_repeated_rows_forward(apart.out("a", n, d), apart.in("x3", n, d),
                                 apart.in("rows", n / 3, d));
  const Tensor x = together.in_out("x3", n, d);
  ops_.add_repeated_rows_forward(x, x, together.in("rows", n / 3, d));
  EXPECT_EQ(together.outputs().at("x3")->values(), apart.outputs().at("a")->values());
}

// What fp16 cannot hold becomes infinity, as a loss scaler must see it; bf16 holds it.
TEST_P(HalfStorageType, AnOverflowBecomesInfinity) {
  StoredMatrix x(1, 2, 1, GetParam()), weight(2, 2, 1, GetParam()), y(1, 2, 1, GetParam());
  x.set({256, 1});
  weight.set({256, 0, -256, 0});
  ops_.linear_forward(y.tensor(), x.tensor(), weight.tensor(), Tensor(), Tensor());
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(y.values(),
            GetParam() == DType::kF16 ? (Values{infinity, -infinity}) : (Values{65536, -65536}));
}

TEST_P(HalfStorageType, InfinityAndNanSpread) {
  const double infinity = std::numeric_limits<double>::infinity();
  StoredMatrix x(2, 2, 1, GetParam()), weight(1, 2, 1, GetParam()), y(2, 1, 1, GetParam());
  x.set({infinity, 1, std::nan(""), 1});
  weight.set({1, 1});
  ops_.linear_forward(y.tensor(), x.tensor(), weight.tensor(), Tensor(), Tensor());
  EXPECT_EQ(y.values()[0], infinity);
  EXPECT_TRUE(std::isnan(y.values()[1]));
  StoredMatrix sum(2, 2, 1, GetParam());
  sum.set({1, 1, 1, 1});
  ops_.add_accumulate(sum.tensor(), x.tensor());
  EXPECT_EQ(sum.values()[0], infinity);
  EXPECT_TRUE(std::isnan(sum.values()[2]));
  EXPECT_TRUE(std::isnan(ops_.sum(x.tensor().row_block(1, 1))));
}

TEST_P(HalfStorageType, EqualRunsGiveEqualBits) {
  for (const OpCase& op : kOpCases) {
    if (std::string(op.name).find("many_blocks") != std::string::npos) continue;
    Operands a(GetParam(), GetParam()), b(GetParam(), GetParam());
    op.run(ops_, a, 97, 7);
    op.run(ops_, b, 97, 7);
    for (const auto& [name, matrix] : a.outputs())
      EXPECT_EQ(matrix->values(), b.outputs().at(name)->values()) << op.name << " " << name;
  }
}

// Training has these bits whether attention's backward turns its gradients or a pass behind it.
void expect_bits_of_passes(Backend& ops, DType dtype) {
  constexpr int64_t kRows = 37, kHalf = 5;
  Operands together(dtype, dtype), apart(dtype, dtype);
  const auto run = [&](Operands& make, const Rotation& q, const Rotation& k) {
    return run_attention_backward(ops, make, causal_plan(kRows), kRows, 2 * kHalf, q, k);
  };
  run(together, angles(together, "q", kRows, kHalf), angles(together, "k", kRows, kHalf));
  const auto [dq, dk] = run(apart, {}, {});
  const Rotation q = angles(apart, "q", kRows, kHalf), k = angles(apart, "k", kRows, kHalf);
  ops.rope_backward(dq, q.cos, q.sin, kHeads);
  ops.rope_backward(dk, k.cos, k.sin, kKvHeads);
  for (const auto& [name, matrix] : together.outputs())
    EXPECT_EQ(matrix->values(), apart.outputs().at(name)->values()) << name;
}

TEST_P(HalfStorageType, GradientsAreRoundedBeforeTheyAreTurned) {
  expect_bits_of_passes(ops_, GetParam());
}

TEST(TurnedGradients, OfTheCpuAreThoseOfPasses) {
  CpuBackend cpu(2);
  expect_bits_of_passes(cpu, DType::kF32);
}

INSTANTIATE_TEST_SUITE_P(Types, HalfStorageType, testing::Values(DType::kBF16, DType::kF16),
                         [](const auto& info) { return std::string(name_of(info.param)); });

// fp32 arithmetic must not be asked to read 16-bit words.
TEST(HalfStorage, TheBackendBelowRefuses16Bits) {
  CpuBackend cpu(1);
  StoredMatrix x(2, 2, 0, DType::kBF16);
  EXPECT_THROW(cpu.add_accumulate(x.tensor(), x.tensor()), Error);
}

TEST(HalfStorage, CountsWhatWasAskedOnce) {
  CpuBackend cpu(1);
  HalfStorage half(cpu, kPanelBytes);
  Operands make(DType::kBF16, DType::kBF16), exact(DType::kF32, DType::kBF16);
  const auto use = [](Backend& ops, Operands& operands) {
    ops.linear_backward_weight(operands.fp32("dw", 300, 4100, Role::kInOut), Tensor(),
                               operands.in("dy", 5, 300), operands.in("x", 5, 4100));
    run_attention(ops, operands, causal_plan(9), 9, 5);
  };
  use(half, make);
  CpuBackend plain(1);
  use(plain, exact);
  EXPECT_EQ(half.counts().calls, plain.counts().calls);
  EXPECT_EQ(half.counts().matmul_flops, plain.counts().matmul_flops);
  EXPECT_EQ(half.counts().attention_flops, plain.counts().attention_flops);
  EXPECT_EQ(half.counts().attention_query_rows, plain.counts().attention_query_rows);
}

}  // namespace
}  // namespace facet::op_test
