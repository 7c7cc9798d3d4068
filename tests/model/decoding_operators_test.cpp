// Which operators decoding takes, and what they take from the heap for each token.
#include <gtest/gtest.h>

#include "kernels/cpu/backend.h"
#include "ops/null_backend.h"
#include "tests/model/allocation_counter.h"
#include "tests/model/language_rig.h"

namespace facet {
namespace {

// The keys of one query are read where they lie, so there is nothing that grows with the cache.
// Counts products by their operator.
class Watcher : public NullBackend {
 public:
  int few = 0, many = 0, many_in_decoding = 0;
  bool decodes = false;

  void set_decoding(bool now) override { decodes = now; }

 private:
  void do_linear_few_rows_forward(Tensor, Tensor, Tensor, Tensor, Tensor) override { ++few; }
  void do_linear_forward(Tensor, Tensor, Tensor, Tensor, Tensor) override {
    ++many;
    many_in_decoding += decodes;
  }
  void do_lora_linear_forward(Tensor, Tensor, Tensor, Tensor, Tensor, std::span<const LoraPart>,
                              float, const Rotation&, int64_t) override {
    ++many;
  }
};

// The products of training and of evaluation, however few their rows, are of one kind.
TEST(DecodingOperators, FewRowsHaveProductsOfTheirOwnInDecodingAlone) {
  for (const bool lora : {false, true}) {
    VlmConfig config = language_rig::small_config();
    if (lora) config.lang_lora = language_rig::lora("model.layers.");
    ParamTable table;
    VisionLanguageModel model(config, table);
    table.allocate(1, ParamTable::Memory::kMeasureOnly);
    Watcher ops;
    Arena arena("activations");
    UnitHooks hooks;
    Context ctx{ops, arena, hooks};
    MicroBatch batch;
    language_rig::add_sample(batch, config, {1, 5, 6, 7}, 2, "few tokens");
    LossSums sums;
    model.evaluate(ctx, batch, sums);
    EXPECT_EQ(ops.few, 0);
    EXPECT_GT(ops.many, 0);
    VisionLanguageModel::Decoding decoding(model, ctx, 64);
    decoding.append(batch);
    ops.many = ops.few = 0;
    decoding.append_token(3);
    EXPECT_EQ(ops.many, 0);
    // q, k and v; the output; gate and up; down: one product each where the weights are contiguous
    EXPECT_EQ(ops.few, 4 * config.lm.num_hidden_layers + 1);
  }
}

// And the backend knows, so that it may divide the work of a prompt in another way.
TEST(DecodingOperators, ThoseOfAPromptAreInDecoding) {
  const VlmConfig config = language_rig::small_config();
  ParamTable table;
  VisionLanguageModel model(config, table);
  table.allocate(1, ParamTable::Memory::kMeasureOnly);
  Watcher ops;
  Arena arena("activations");
  UnitHooks hooks;
  Context ctx{ops, arena, hooks};
  MicroBatch batch;
  language_rig::add_sample(batch, config, std::vector<int32_t>(kFewRows + 1, 5), 2, "a prompt");
  VisionLanguageModel::Decoding decoding(model, ctx, 64);
  decoding.append(batch);
  EXPECT_GT(ops.many, 0);
  EXPECT_EQ(ops.many_in_decoding, ops.many);
  EXPECT_FALSE(ops.decodes);
}

TEST(DecodingOperators, AttentionTakesNothingAsTheCacheGrows) {
  constexpr int64_t kHeads = 4, kKvHeads = 2, kWidth = 64, kLongest = 700;
  CpuBackend ops(2);
  std::vector<float> rows(static_cast<size_t>(2 * kHeads * kWidth), 0.5f), lse(kHeads);
  std::vector<float> cache(static_cast<size_t>(2 * kLongest * kKvHeads * kWidth), 0.25f);
  const Tensor out(rows.data(), {1, kHeads * kWidth}, DType::kF32),
      q(rows.data() + kHeads * kWidth, {1, kHeads * kWidth}, DType::kF32),
      kv(cache.data(), {kLongest, 2 * kKvHeads * kWidth}, DType::kF32);
  // The heap that an answer takes with so many keys, but for the plan's.
  const auto taken = [&](int64_t keys) {
    AttentionPlan whole, plan;
    make_causal_plan(whole, {0, static_cast<int32_t>(keys)});
    keep_queries(plan, whole, {static_cast<int32_t>(keys) - 1});
    const Tensor seen = kv.row_block(0, keys);
    const int64_t before = allocation_counter::count();
    ops.attention_forward(out, Tensor(lse.data(), {1, kHeads, 1}, DType::kF32), Tensor(), q,
                          seen.column_block(0, kKvHeads * kWidth),
                          seen.column_block(kKvHeads * kWidth, kKvHeads * kWidth), plan, kHeads,
                          kKvHeads, 0.1f);
    return allocation_counter::count() - before;
  };
  EXPECT_GT(taken(3), 0) << "the counter sees the scratch that is taken once";
  for (const int64_t keys : {4, 300, 700}) EXPECT_EQ(taken(keys), 0) << keys << " keys";
}

}  // namespace
}  // namespace facet
