// How much work a layer of the decoder gives to the GPU.
#include <gtest/gtest.h>

#include "model/llama_block.h"
#include "ops/pool_plan.h"
#include "tests/device/cuda/device_under_test.h"
#include "tests/kernels/mirrored.h"
#include "tests/ops/op_cases.h"

namespace facet::kernel_test {
namespace {

constexpr int64_t kRows = 5, kWidth = 64;

struct Launches {
  int64_t forward, backward;
};

// Kernels and products of a layer in training, with LoRA of that rank on all its linear layers.
Launches launches(int64_t rank) {
  LlamaConfig config;
  config.hidden_size = config.intermediate_size = config.head_dim = kWidth;
  config.num_attention_heads = config.num_key_value_heads = 1;
  CudaBackend cuda(kSmallSizes);
  ParamTable table;
  table.place_in(cuda.memory());
  table.begin_unit("layer");
  const LlamaBlock block(table, "", 0, config, {.rank = rank, .module_name = "proj"});
  table.set_trained("", true);
  table.allocate(1, ParamTable::Memory::kReal, DType::kBF16);
  table.allocate_gradients();
  for (const Param& param : table.params()) {
    cuda.fill(param.value, 0);
    cuda.fill(param.grad, 0);
  }
  Arena arena("test", int64_t{1} << 20, cuda.memory());
  UnitHooks hooks;
  Context ctx{cuda, arena, hooks, DType::kBF16};
  const AttentionPlan plan = op_test::causal_plan(kRows);
  const Tensor x = ctx.activation({kRows, kWidth}), y = ctx.activation({kRows, kWidth}),
               cos = arena.tensor({kRows, kWidth / 2}), sin = arena.tensor({kRows, kWidth / 2});
  for (const Tensor& t : {x, cos, sin}) cuda.fill(t, 0);
  const DecoderRows rows{.plan = plan, .window_plan = plan, .cos = cos, .sin = sin};
  LlamaBlock::Saved saved;
  const int64_t begin = device_test::host_calls().launches;
  block.forward(ctx, y, x, rows, &saved);
  const int64_t middle = device_test::host_calls().launches;
  block.backward(ctx, y, y, x, rows, saved, InputGradient::kNeeded);
  const int64_t end = device_test::host_calls().launches;
  cuda.synchronize();
  return {middle - begin, end - middle};
}

// One for each of q|k|v, o, gate|up and down; in backward two.
TEST(LayerLaunches, LoraAddsTwelve) {
  const Launches with = launches(16), without = launches(0);
  EXPECT_EQ(with.forward - without.forward, 4);
  EXPECT_EQ(with.backward - without.backward, 8);
}

// Of attention's backward, whose queries and keys were turned or not.
int64_t backward_launches(const Rotation& rotation, CudaBackend& cuda, Arena& arena) {
  const AttentionPlan plan = op_test::causal_plan(kRows);
  const auto zeros = [&] {
    const Tensor x = arena.tensor({kRows, kWidth}, DType::kBF16);
    cuda.fill(x, 0);
    return x;
  };
  const Tensor dq = zeros(), dk = zeros(), dv = zeros(), dout = zeros(), q = zeros(), k = zeros(),
               v = zeros(), out = zeros(), lse = arena.tensor({1, 1, kRows});
  cuda.fill(lse, 0);
  const int64_t begin = device_test::host_calls().launches;
  cuda.attention_backward(dq, dk, dv, dout, q, k, v, out, Tensor(), lse, rotation, rotation, plan,
                          1, 1, 1);
  const int64_t launches = device_test::host_calls().launches - begin;
  cuda.synchronize();
  return launches;
}

TEST(AttentionLaunches, GradientsAreTurnedWhereTheyAreStored) {
  CudaBackend cuda(kSmallSizes);
  Arena arena("test", int64_t{1} << 20, cuda.memory());
  const Tensor angles = arena.tensor({kRows, kWidth / 2});
  cuda.fill(angles, 1);
  EXPECT_EQ(backward_launches({angles, angles}, cuda, arena), backward_launches({}, cuda, arena));
}

// Launches of attention by a sequence of 40 rows, for its last ones, whose keys are in a pool.
int64_t attention_launches(int64_t queries, int64_t width, DType dtype, bool in_pool = true) {
  constexpr int32_t kLength = 40;
  std::vector<int32_t> last;
  for (int64_t row = kLength - queries; row < kLength; ++row)
    last.push_back(static_cast<int32_t>(row));
  AttentionPlan whole, kept, plan;
  make_causal_plan(whole, {0, kLength});
  keep_queries(kept, whole, last);
  PoolPlanWriter writer;
  writer.begin(plan, kLength, 1);
  writer.add(plan, kept, std::vector<RowRange>{{0, kLength}});
  CudaBackend cuda(kSmallSizes);
  Arena arena("test", int64_t{1} << 20, cuda.memory());
  const auto zeros = [&](int64_t rows) {
    const Tensor x = arena.tensor({rows, width}, dtype);
    cuda.fill(x, 0);
    return x;
  };
  const Tensor q = zeros(queries), out = zeros(queries), k = zeros(kLength), v = zeros(kLength);
  const Tensor lse = arena.tensor({1, 1, queries});
  const int64_t begin = device_test::host_calls().launches;
  cuda.attention_forward(out, lse, Tensor(), q, k, v, in_pool ? plan : kept, 1, 1, 1);
  const int64_t launches = device_test::host_calls().launches - begin;
  cuda.synchronize();
  return launches;
}

// Its kernels are two launches, and those of training one.
TEST(AttentionLaunches, DecodingOfFewRowsHasKernelsOfItsOwn) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    EXPECT_EQ(attention_launches(1, 64, dtype), 2);
    EXPECT_EQ(attention_launches(8, 128, dtype), 2);
    EXPECT_EQ(attention_launches(9, 64, dtype), 1);
    EXPECT_EQ(attention_launches(1, 136, dtype), 1);
    EXPECT_EQ(attention_launches(1, 20 / size_of(dtype), dtype), 1);  // rows are no whole packs
    EXPECT_EQ(attention_launches(1, 64, dtype, false), 1);
  }
}

}  // namespace
}  // namespace facet::kernel_test
