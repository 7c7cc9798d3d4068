// What a backend was asked is counted alike by the one that computes and the one that does not.
#include "kernels/cpu/backend.h"
#include "ops/null_backend.h"
#include "tests/ops/op_test.h"

namespace facet::op_test {
namespace {

void use(Backend& ops) {
  const int64_t n = 3, i = 5, o = 7, r = 2;
  Matrix x(n, i, Values(n * i, 1)), weight(o, i, Values(o * i, 1)), y(n, o), u(n, r),
      right(i, r, Values(i * r, 1)), left(r, o, Values(r * o, 1)), dy(n, o, Values(n * o, 1));
  ops.linear_forward(y.tensor(), x.tensor(), weight.tensor(), Tensor(), Tensor());
  ops.lora_forward_accumulate(y.tensor(), u.tensor(), x.tensor(), right.tensor(), left.tensor(), 1);
  ops.lora_backward_accumulate(Tensor(), right.tensor(), left.tensor(), u.tensor(), dy.tensor(),
                               x.tensor(), u.tensor(), right.tensor(), left.tensor(), 1);
  ops.linear_backward_input(x.tensor(), dy.tensor(), weight.tensor());
  ops.linear_backward_weight(weight.tensor(), Tensor(), dy.tensor(), x.tensor());
  ops.linear_backward_weight(Tensor(), left.tensor().row_block(0, 1), dy.tensor(), x.tensor());
}

TEST(OpCounts, LinearAndLoraCountTheirProducts) {
  CpuBackend cpu(1);
  NullBackend null;
  use(cpu);
  use(null);
  const int64_t linear = 3 * (2 * 3 * 5 * 7);                // forward, input, weight
  const int64_t lora = 2 * 3 * 2 * ((5 + 7) + (2 * 7 + 5));  // without dx
  EXPECT_EQ(cpu.counts().matmul_flops, linear + lora);
  EXPECT_EQ(null.counts().matmul_flops, linear + lora);
  EXPECT_EQ(cpu.counts().calls, 6);
  EXPECT_EQ(null.counts().calls, 6);
}

// Where nothing joins them, a layer and its LoRA are the operators they stand for, to the bit.
TEST(OpCounts, ALayerAndItsLoraCountAsTheirOperators) {
  const int64_t n = 3, i = 5, r = 2, slim = 3, o = 7;
  const auto matrix = [](int64_t rows, int64_t cols, const char* name) {
    return Matrix(rows, cols, random_values(rows * cols, name));
  };
  Matrix x = matrix(n, i, "x"), weight = matrix(o, i, "weight"), right = matrix(i, r, "right"),
         left = matrix(r, slim, "left"), dy = matrix(n, o, "dy");
  struct Results {
    Matrix y, u, dx, du, dright, dleft;
  };
  const auto results = [&] {
    return Results{
        {n, o}, {n, r}, {n, i}, {n, r}, {i, r, Values(i * r, 1)}, {r, slim, Values(r * slim, 1)}};
  };
  Results apart = results(), joined = results();
  CpuBackend first(1), second(1);
  const int64_t begin = o - slim;
  first.linear_forward(apart.y.tensor(), x.tensor(), weight.tensor(), Tensor(), Tensor());
  first.lora_forward_accumulate(apart.y.tensor().column_block(begin, slim), apart.u.tensor(),
                                x.tensor(), right.tensor(), left.tensor(), 0.5f);
  first.linear_backward_input(apart.dx.tensor(), dy.tensor(), weight.tensor());
  first.linear_backward_input_accumulate(apart.dx.tensor(), dy.tensor(), weight.tensor());
  first.lora_backward_accumulate(apart.dx.tensor(), apart.dright.tensor(), apart.dleft.tensor(),
                                 apart.du.tensor(), dy.tensor().column_block(begin, slim),
                                 x.tensor(), apart.u.tensor(), right.tensor(), left.tensor(), 0.5f);
  const std::vector<LoraPart> parts = {{begin, joined.u.tensor(), right.tensor(), left.tensor(),
                                        joined.du.tensor(), joined.dright.tensor(),
                                        joined.dleft.tensor()}};
  second.linear_lora_forward(joined.y.tensor(), x.tensor(), weight.tensor(), Tensor(), Tensor(),
                             parts, 0.5f);
  second.linear_lora_backward(joined.dx.tensor(), dy.tensor(), x.tensor(), weight.tensor(), {},
                              0.5f, false);
  second.linear_lora_backward(joined.dx.tensor(), dy.tensor(), x.tensor(), weight.tensor(), parts,
                              0.5f, true);
  EXPECT_EQ(first.counts().calls, second.counts().calls);
  EXPECT_EQ(first.counts().matmul_flops, second.counts().matmul_flops);
  EXPECT_EQ(apart.y.values(), joined.y.values());
  EXPECT_EQ(apart.dx.values(), joined.dx.values());
  EXPECT_EQ(apart.dright.values(), joined.dright.values());
  EXPECT_EQ(apart.dleft.values(), joined.dleft.values());
}

TEST(OpCounts, AttentionCountsVisiblePairs) {
  AttentionPlan plan;
  make_causal_plan(plan, {0, 4});
  NullBackend null;
  std::vector<float> memory(4 * 6);
  const Tensor q(memory.data(), {4, 6}, DType::kF32);
  const Tensor lse(memory.data(), {1, 2, 4}, DType::kF32);
  null.attention_forward(q, lse, Tensor(), q, q, q, plan, 2, 2, 1);
  null.attention_backward(q, q, q, q, q, q, q, q, Tensor(), lse, plan, 2, 2, 1);
  EXPECT_EQ(null.counts().attention_flops, (4 + 10) * 3 * 2 * (1 + 2 + 3 + 4));
  EXPECT_EQ(null.counts().attention_query_rows, 4);
}

}  // namespace
}  // namespace facet::op_test
