// How much work a layer of the decoder gives to the GPU.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "model/llama_block.h"
#include "ops/pool_plan.h"
#include "tests/device/cuda/device_under_test.h"
#include "tests/device/cuda/hopper_device.h"
#include "tests/kernels/mirrored.h"
#include "tests/ops/op_cases.h"

namespace facet::kernel_test {
namespace {

constexpr int64_t kRows = 5, kWidth = 64;

enum class Rebuilding : uint8_t { kNothing, kNormsAndActivation };

// A layer in bf16, with LoRA of that rank on all its linear layers.
class Layer {
 public:
  Layer(CudaBackend& cuda, int64_t rank, Rebuilding rebuilding = Rebuilding::kNothing)
      : cuda_(cuda) {
    LlamaConfig config;
    config.hidden_size = config.intermediate_size = config.head_dim = kWidth;
    config.num_attention_heads = config.num_key_value_heads = 1;
    table_.place_in(cuda.memory());
    table_.begin_unit("layer");
    block_ = std::make_unique<LlamaBlock>(table_, "", 0, config,
                                          LoraConfig{.rank = rank, .module_name = "proj"});
    table_.set_trained("", true);
    table_.allocate(1, ParamTable::Memory::kReal, DType::kBF16);
    table_.allocate_gradients();
    for (const Param& param : table_.params()) {
      set(param.value);
      cuda.fill(param.grad, 0);
    }
    set(x_);
    for (const Tensor& t : {cos_, sin_}) cuda.fill(t, 0.7f);
    cuda.copy_from_host(index_, kAsked.data());
    keep_queries(asked_plan_, plan_, kAsked);
    if (rebuilding == Rebuilding::kNormsAndActivation) {
      normed_ = ctx_.activation({kRows, kWidth});
      activated_ = ctx_.activation({kRows, kWidth});
    }
  }

  void forward(const Tensor& y, const AskedRows& asked = {}) {
    block_->forward(ctx_, y, x_, rows(asked), &saved_);
  }
  void recompute() { block_->recompute(ctx_, x_, rows({}), saved_); }
  void backward() { block_->backward(ctx_, y_, y_, x_, rows({}), saved_, InputGradient::kNeeded); }
  // The bits of the output, of all rows and of some.
  std::vector<uint16_t> outputs() {
    const int64_t count = std::ssize(kAsked);
    std::vector<uint16_t> bits(static_cast<size_t>((kRows + count) * kWidth));
    const Tensor some = ctx_.activation({count, kWidth});
    forward(y_);
    forward(some, {.rows = index_,
                   .plan = &asked_plan_,
                   .cos = cos_.row_block(0, count),
                   .sin = sin_.row_block(0, count)});
    cuda_.copy_to_host(bits.data(), y_);
    cuda_.copy_to_host(bits.data() + kRows * kWidth, some);
    return bits;
  }
  Tensor y() const { return y_; }

 private:
  DecoderRows rows(const AskedRows& asked) const {
    return {.plan = plan_,
            .window_plan = plan_,
            .cos = cos_,
            .sin = sin_,
            .asked = asked,
            .normed = normed_,
            .activated = activated_};
  }
  void set(const Tensor& t) {
    std::vector<uint16_t> values;
    for (int64_t i = 0; i < t.numel(); ++i)
      values.push_back(round_to_16_bits(std::sin(0.37f * static_cast<float>(++waves_)), t.dtype()));
    cuda_.copy_from_host(t, values.data());
  }

  const std::vector<int32_t> kAsked = {1, 4};
  CudaBackend& cuda_;
  ParamTable table_;
  std::unique_ptr<LlamaBlock> block_;
  Arena arena_{"test", int64_t{1} << 20, cuda_.memory()};
  UnitHooks hooks_;
  Context ctx_{cuda_, arena_, hooks_, DType::kBF16};
  const AttentionPlan plan_ = op_test::causal_plan(kRows);
  AttentionPlan asked_plan_;
  const Tensor x_ = ctx_.activation({kRows, kWidth}), y_ = ctx_.activation({kRows, kWidth}),
               cos_ = arena_.tensor({kRows, kWidth / 2}), sin_ = arena_.tensor({kRows, kWidth / 2}),
               index_ = arena_.tensor({2}, DType::kI32);
  Tensor normed_, activated_;  // shared, if they are rebuilt
  LlamaBlock::Saved saved_;
  int waves_ = 0;
};

struct Launches {
  int64_t forward, backward;
};

// Kernels and products of a layer in training.
Launches launches(CudaBackend& cuda, int64_t rank, Rebuilding rebuilding = Rebuilding::kNothing) {
  Layer layer(cuda, rank, rebuilding);
  const int64_t begin = device_test::host_calls().launches;
  layer.forward(layer.y());
  const int64_t middle = device_test::host_calls().launches;
  layer.backward();
  const int64_t end = device_test::host_calls().launches;
  cuda.synchronize();
  return {middle - begin, end - middle};
}

// One for each of q|k|v, o, gate|up and down; in backward three.
TEST(LayerLaunches, LoraAddsSixteen) {
  CudaBackend cuda(kSmallSizes);
  const Launches with = launches(cuda, 16), without = launches(cuda, 0);
  EXPECT_EQ(with.forward - without.forward, 4);
  EXPECT_EQ(with.backward - without.backward, 12);
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

TEST(LayerLaunches, WhatIsRebuiltComesOutOfOtherKernels) {
  CudaBackend cuda(kSmallSizes);
  const Launches kept = launches(cuda, 16),
                 rebuilt = launches(cuda, 16, Rebuilding::kNormsAndActivation);
  EXPECT_EQ(rebuilt.forward, kept.forward);
  EXPECT_EQ(rebuilt.backward, kept.backward);
}

// RoPE takes one forward, unless the product that stores queries and keys turns them; and LoRA's
// first products one each, but for that in SwiGLU.
TEST(LayerLaunches, FusedLoraTurnsWhatItStores) {
  const device_test::HopperDevice hopper;
  CudaBackend cuda(kSmallSizes);
  const Launches without = launches(cuda, 0);
  cuda.join_lora(true);
  EXPECT_EQ(launches(cuda, 16).forward - without.forward, 3 - 1);
}

// All that backward needs of the last product is LoRA's first one.
TEST(LayerLaunches, WithFusedLoraTheLastProductIsNotRecomputed) {
  const device_test::HopperDevice hopper;
  CudaBackend cuda(kSmallSizes);
  for (const bool fused : {false, true}) {
    cuda.join_lora(fused);
    Layer layer(cuda, 16);
    const int64_t begin = device_test::host_calls().launches;
    layer.forward(layer.y());
    const int64_t middle = device_test::host_calls().launches;
    layer.recompute();
    EXPECT_EQ(middle - begin - (device_test::host_calls().launches - middle), fused ? 1 : 0);
    layer.backward();
    cuda.synchronize();
  }
}

// Whoever computes LoRA's first products.
TEST(LayerOutputs, HaveTheSameBitsWithFirstProductsWhereTheirInputsAreMade) {
  CudaBackend cuda(kSmallSizes);
  const std::vector<uint16_t> separate = Layer(cuda, 16).outputs();
  cuda.choose_lora();
  const int64_t begin = device_test::host_calls().launches;
  EXPECT_EQ(Layer(cuda, 16).outputs(), separate);
  const int64_t middle = device_test::host_calls().launches;
  cuda::ProductChoices choices;
  choices.lora.choose(cuda::LoraDownKey{DType::kBF16, kRows, kWidth, 16}, cuda::LoraWay::kFused);
  cuda.products().take_choices(choices);
  EXPECT_EQ(Layer(cuda, 16).outputs(), separate);
  const int64_t end = device_test::host_calls().launches;
  EXPECT_EQ((middle - begin) - (end - middle), 2) << "once less in each of two layers";
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
