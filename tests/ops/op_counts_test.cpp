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
  Matrix norm(1, o);
  ops.dora_row_norms(norm.vector(), weight.tensor(), right.tensor(), left.tensor(), 1);
}

TEST(OpCounts, LinearAndLoraCountTheirProducts) {
  CpuBackend cpu(1);
  NullBackend null;
  use(cpu);
  use(null);
  const int64_t linear = 3 * (2 * 3 * 5 * 7);                // forward, input, weight
  const int64_t lora = 2 * 3 * 2 * ((5 + 7) + (2 * 7 + 5));  // without dx
  const int64_t norms = 2 * 2 * 5 * 7;                       // R L
  EXPECT_EQ(cpu.counts().matmul_flops, linear + lora + norms);
  EXPECT_EQ(null.counts().matmul_flops, linear + lora + norms);
  EXPECT_EQ(cpu.counts().calls, 7);
  EXPECT_EQ(null.counts().calls, 7);
}

TEST(OpCounts, AttentionCountsVisiblePairs) {
  AttentionPlan plan;
  make_causal_plan(plan, {0, 4});
  NullBackend null;
  std::vector<float> memory(4 * 6);
  const Tensor q(memory.data(), {4, 6}, DType::kF32);
  const Tensor lse(memory.data(), {1, 2, 4}, DType::kF32);
  null.attention_forward(q, lse, Tensor(), q, q, q, plan, 2, 2, 1);
  null.attention_backward(q, q, q, q, q, q, q, q, Tensor(), lse, Rotation(), Rotation(), plan, 2, 2,
                          1);
  EXPECT_EQ(null.counts().attention_flops, (4 + 10) * 3 * 2 * (1 + 2 + 3 + 4));
  EXPECT_EQ(null.counts().attention_query_rows, 4);
}

}  // namespace
}  // namespace facet::op_test
