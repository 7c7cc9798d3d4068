// What every operator refuses, whichever backend it runs on, and that each call counts once. The
// checks and counts are Backend's own, so the CUDA backend has them too.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "kernels/cpu/backend.h"
#include "ops/half_storage.h"
#include "ops/null_backend.h"
#include "tests/ops/contract_cases.h"
#include "tests/ops/op_cases.h"

namespace facet::contract_test {
namespace {

constexpr int64_t kPanelBytes = int64_t{1} << 16;

class Contract : public testing::TestWithParam<Case> {
 protected:
  // body(backend, its name, type of activations)
  template <typename Body>
  void on_every_backend(const Body& body) {
    CpuBackend cpu(1), below(1);
    HalfStorage half(below, kPanelBytes);
    NullBackend nothing;
    body(cpu, "CpuBackend", DType::kF32);
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      body(half, "HalfStorage", dtype);
      body(nothing, "NullBackend", dtype);
    }
  }
};

// The message of what `call` throws; "" when it is taken.
template <typename Run>
std::string refusal(const Run& run) {
  try {
    run();
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST_P(Contract, RefusesWhatDoesNotFit) {
  const auto& [op, run] = GetParam();
  on_every_backend([&, op = op, run = run](Backend& ops, const char* backend, DType dtype) {
    Call right(dtype);
    run(ops, right);
    for (const Operand& operand : right.operands()) {
      for (const auto& [flaw, name_of_flaw] : kFlaws) {
        if (!operand.refuses(flaw)) continue;
        Call wrong(dtype, operand.name, flaw);
        const int64_t calls = ops.counts().calls;
        const std::string message = refusal([&] { run(ops, wrong); });
        EXPECT_NE(message.find(std::string(op) + ": "), std::string::npos)
            << backend << " of " << name_of(dtype) << " takes " << operand.name << " "
            << name_of_flaw << "; " << message;
        EXPECT_EQ(ops.counts().calls, calls) << "counted before it was checked";
      }
    }
  });
}

TEST_P(Contract, TakesAbsentOperandsThatAreOptional) {
  const auto& [op, run] = GetParam();
  on_every_backend([&, run = run](Backend& ops, const char* backend, DType dtype) {
    Call right(dtype);
    run(ops, right);
    for (const Operand& operand : right.operands()) {
      if (operand.refuses(Flaw::kAbsent)) continue;
      Call without(dtype, operand.name, Flaw::kAbsent);
      EXPECT_EQ(refusal([&] { run(ops, without); }), "") << backend << " " << operand.name;
    }
  });
}

TEST_P(Contract, EveryBackendCountsTheSame) {
  const auto& [op, run] = GetParam();
  CpuBackend cpu(1);
  Call call(DType::kF32);
  run(cpu, call);
  EXPECT_EQ(cpu.counts().calls, 1);
  on_every_backend([&, run = run](Backend& ops, const char* backend, DType dtype) {
    const OpCounts before = ops.counts();
    Call again(dtype);
    run(ops, again);
    EXPECT_EQ(ops.counts().calls - before.calls, 1) << backend;
    EXPECT_EQ(ops.counts().matmul_flops - before.matmul_flops, cpu.counts().matmul_flops);
    EXPECT_EQ(ops.counts().attention_flops - before.attention_flops, cpu.counts().attention_flops);
    EXPECT_EQ(ops.counts().attention_query_rows - before.attention_query_rows,
              cpu.counts().attention_query_rows);
  });
}

INSTANTIATE_TEST_SUITE_P(Ops, Contract, testing::ValuesIn(kCases), [](const auto& info) {
  return std::string(info.param.op) + "_" + std::to_string(info.index);
});

#define FACET_NAME_OF_OPERATOR(result, name, ...) #name,
TEST(OperatorList, EveryOperatorHasACaseHere) {
  for (const char* name : {FACET_OPERATORS(FACET_NAME_OF_OPERATOR)}) {
    bool found = false;
    for (const Case& c : kCases) found |= std::string(c.op) == name;
    EXPECT_TRUE(found) << name;
  }
}

// From a case in op_cases.h follow the tests of 16-bit storage and of the CUDA backend. What copies
// from or to the host, or returns a number, has tests of its own.
TEST(OperatorList, EveryOperatorOnTensorsIsInOpCases) {
  const std::set<std::string> others = {"copy_from_host", "copy_to_host", "sum",
                                        "gradient_statistics"};
  for (const char* name : {FACET_OPERATORS(FACET_NAME_OF_OPERATOR)}) {
    bool found = others.contains(name);
    for (const op_test::OpCase& c : op_test::kOpCases) found |= std::string(c.name) == name;
    EXPECT_TRUE(found) << name;
  }
}
#undef FACET_NAME_OF_OPERATOR

// The CPU kernel would read past the end of the weight.
TEST(ContractMessage, NamesTheOperatorTheOperandAndBothShapes) {
  std::vector<float> memory(4 * 64);
  const Tensor x(memory.data(), {4, 64}, DType::kF32), rstd(memory.data(), {4}, DType::kF32),
      weight(memory.data(), {8}, DType::kF32);
  CpuBackend ops(1);
  const std::string message = refusal([&] { ops.rms_norm_forward(x, rstd, x, weight, 1e-5f); });
  EXPECT_NE(message.find("rms_norm_forward: weight is (8), not (64)"), std::string::npos)
      << message;
}

TEST(ContractOfLora, RefusesPartsOutOfOrderAndOnesThatOverlap) {
  NullBackend ops;
  Call call(DType::kF32);
  const auto run = [&](int64_t first, int64_t second) {
    std::vector<LoraPart> parts;
    for (const int64_t begin : {first, second})
      parts.push_back({.begin = begin,
                       .u = call.matrix("u", 3, 2),
                       .right = call.matrix("right", 4, 2, kDense),
                       .left = call.matrix("left", 2, 3, kDense)});
    return refusal([&] {
      ops.lora_linear_forward(call.matrix("y", 3, 6), call.matrix("x", 3, 4),
                              call.matrix("weight", 6, 4), Tensor(), Tensor(), parts, 1);
    });
  };
  EXPECT_EQ(run(0, 3), "");
  EXPECT_NE(run(3, 0), "");
  EXPECT_NE(run(0, 2), "");
}

TEST(ContractOfLora, TurnsHeadsThatAreThereAndNoResidual) {
  NullBackend ops;
  Call call(DType::kF32);
  const LoraPart part{.u = call.matrix("u", 3, 2),
                      .right = call.matrix("right", 4, 2, kDense),
                      .left = call.matrix("left", 2, 5, kDense)};
  const auto run = [&](const Tensor& residual, int64_t heads) {
    return refusal([&] {
      ops.lora_linear_forward(call.matrix("y", 3, 5), call.matrix("x", 3, 4),
                              call.matrix("weight", 5, 4), Tensor(), residual, {&part, 1}, 1,
                              {call.fp32("cos", 3, 1), call.fp32("sin", 3, 1)}, heads);
    });
  };
  EXPECT_EQ(run(Tensor(), 1), "");
  EXPECT_EQ(run(Tensor(), 2), "");
  EXPECT_NE(run(Tensor(), 0), "");
  EXPECT_NE(run(Tensor(), 3), "");
  EXPECT_NE(run(call.matrix("residual", 3, 5), 1), "");
}

TEST(ContractOfLora, RefusesTheFirstProductOfSomePartsAlone) {
  NullBackend ops;
  Call call(DType::kF32);
  for (const bool both : {true, false}) {
    std::vector<LoraPart> parts;
    for (const int64_t begin : {0, 3})
      parts.push_back({.begin = begin,
                       .u = call.matrix("u", 3, 2),
                       .right = call.matrix("right", 4, 2, kDense),
                       .left = call.matrix("left", 2, 3, kDense),
                       .has_u = both || begin == 0});
    EXPECT_EQ(refusal([&] {
                ops.lora_linear_forward(call.matrix("y", 3, 6), call.matrix("x", 3, 4),
                                        call.matrix("weight", 6, 4), Tensor(), Tensor(), parts, 1);
              }).empty(),
              both);
  }
}

TEST(ContractOfAttention, RefusesAnImagePartWithoutASlotForIt) {
  NullBackend ops;
  Call call(DType::kF32);
  EXPECT_NE(refusal([&] { attend(ops, call, plan_of_one_kind(), call.matrix("out_part", 5, 8)); }),
            "");
}

TEST(ContractOfAttention, RefusesAPlanOfOtherRows) {
  AttentionPlan plan;
  make_causal_plan(plan, {0, 2, 4});
  NullBackend ops;
  Call call(DType::kF32);
  EXPECT_NE(refusal([&] { attend(ops, call, plan, Tensor()); }), "");
}

}  // namespace
}  // namespace facet::contract_test
