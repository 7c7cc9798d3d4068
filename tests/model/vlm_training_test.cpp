// What the composed model promises about a training pass besides its numbers: who is trained, which
// hooks are called, what is computed and kept, and what never depends on what.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "model/vlm.h"
#include "ops/null_backend.h"
#include "tests/model/allocation_counter.h"
#include "tests/model/language_rig.h"

namespace facet {
namespace {

using language_rig::kImage;
using language_rig::mixed_batch;
using language_rig::Rig;
using language_rig::small_config;

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

double largest(const std::vector<float>& values) {
  double result = 0;
  for (const float value : values) result = std::max(result, std::abs(static_cast<double>(value)));
  return result;
}

TEST(VlmTraining, TrainsEmbeddingProjectionAndLoraUnlessTold) {
  VlmConfig config = small_config();
  config.lang_lora = language_rig::lora("model.layers.");
  Rig rig(config, "default");
  for (const Param& param : rig.table.params()) {
    const bool expected = param.name.starts_with("lang_embed.") ||
                          param.name.starts_with("projection.") ||
                          param.name.find(".lora_") != std::string::npos;
    EXPECT_EQ(param.trained, expected) << param.name;
  }
}

// What enters the decoder are the rows of lang_embed.
TEST(VlmTraining, TheTokenTableOfTheDecoderIsTrainedOnlyAsATiedHead) {
  for (const bool tied : {false, true}) {
    VlmConfig config = small_config();
    config.lm.tie_word_embeddings = tied;
    Rig rig(config);
    EXPECT_EQ(rig.table.find("lang_decoder.model.embed_tokens.weight")->trained, tied);
  }
}

TEST(VlmTraining, ALoraThatMatchesNothingIsRefused) {
  VlmConfig config = small_config();
  config.lang_lora = language_rig::lora("model.blocks.");
  ParamTable table;
  EXPECT_THROW(VisionLanguageModel(config, table), Error);
  config = small_config();
  config.vis_lora = language_rig::lora("resblocks");
  ParamTable other;
  EXPECT_THROW(VisionLanguageModel(config, other), Error);
}

// A subset's gradients are those of full training: nothing below it is skipped that it needs.
TEST(VlmTraining, ASubsetHasTheGradientsOfFullTraining) {
  VlmConfig config = small_config();
  config.lang_lora = language_rig::lora("q_proj");
  const MicroBatch batch = mixed_batch(config);
  Rig full(config);
  full.train(batch);
  for (const std::string prefix :
       {"lang_decoder.lm_head", "lang_decoder.model.norm", "lang_decoder.model.layers.1.",
        "lang_decoder.model.layers.0.", "lang_decoder.model.layers.1.input_layernorm",
        "lang_decoder.model.layers.0.self_attn.q_proj.lora_left", "lang_embed.", "projection.",
        "vis_encoder.vision_model.encoder.layers.1.", "vis_encoder.vision_model.embeddings."}) {
    ParamTable table;
    VisionLanguageModel model(config, table);
    table.set_trained("", false);
    ASSERT_GT(table.set_trained(prefix, true), 0) << prefix;
    vision_rig::fill(table);
    LossSums sums;
    Context ctx{full.ops, full.arena, full.hooks};
    model.forward_backward(ctx, batch, 1, sums);
    for (const Param& param : table.params()) {
      if (!param.trained) continue;
      const std::vector<float> expected = vision_rig::floats_of(full.table.find(param.name)->grad);
      EXPECT_LE(vision_rig::relative_error(vision_rig::floats_of(param.grad),
                                           std::vector<double>(expected.begin(), expected.end())),
                1e-6)
          << param.name;
    }
  }
}

TEST(VlmTraining, BackwardStopsBelowTheLowestTrainedBlock) {
  VlmConfig config = small_config();
  config.lm.num_hidden_layers = 6;
  const MicroBatch batch = mixed_batch(config);
  const auto flops = [&](const std::string& trained) {
    Rig rig(config, "default");
    ParamTable table;
    VisionLanguageModel model(config, table);
    table.set_trained("", false);
    table.set_trained(trained, true);
    vision_rig::fill(table);
    LossSums sums;
    const int64_t before = rig.ops.counts().matmul_flops;
    model.forward_backward(rig.ctx, batch, 1, sums);
    return rig.ops.counts().matmul_flops - before;
  };
  const int64_t head = flops("lang_decoder.lm_head");
  const int64_t top = flops("lang_decoder.model.layers.5.");
  const int64_t bottom = flops("lang_decoder.model.layers.0.self_attn.q");
  EXPECT_LT(head, top);
  EXPECT_LT(top, bottom - (bottom - head) / 2);
}

// ---- recompute

TEST(VlmTraining, RecomputeGivesEqualBitsInAtMostHalfTheArena) {
  for (const bool with_lora : {false, true}) {
    VlmConfig config = small_config();
    config.lm.num_hidden_layers = 8;
    if (with_lora) config.lang_lora = language_rig::lora("model.layers.");
    const MicroBatch batch = mixed_batch(config);
    Rig plain(config, with_lora ? "default" : "");
    config.recompute = true;
    Rig saving(config, with_lora ? "default" : "");
    const LossSums a = plain.train(batch), b = saving.train(batch);
    EXPECT_EQ(a.loss, b.loss);
    EXPECT_TRUE(same_bits(plain.gradients(), saving.gradients()));
    EXPECT_GT(largest(plain.gradients()), 0);
    EXPECT_LE(2 * saving.arena.peak(), plain.arena.peak());
    const auto runs_again = [](const Rig& rig) {
      return std::count(rig.hooks.events.begin(), rig.hooks.events.end(),
                        "before recompute lang_decoder.layers.3");
    };
    EXPECT_EQ(runs_again(plain), 0);
    EXPECT_EQ(runs_again(saving), 1);
  }
}

// Of a config of eight blocks, the peaks of the arena without and with rebuilding, after gradients
// of equal bits.
std::pair<int64_t, int64_t> peaks_of_rebuilding(VlmConfig config, const std::string& trained,
                                                Rig::Others others = Rig::Others::kAsChosen) {
  config.lm.num_hidden_layers = 8;
  const MicroBatch batch = mixed_batch(config);
  config.rebuild = false;
  Rig plain(config, trained, 1, others);
  config.rebuild = true;
  Rig saving(config, trained, 1, others);
  const LossSums a = plain.train(batch), b = saving.train(batch);
  EXPECT_EQ(a.loss, b.loss);
  EXPECT_TRUE(same_bits(plain.gradients(), saving.gradients())) << trained;
  EXPECT_GT(largest(plain.gradients()), 0);
  return {plain.arena.peak(), saving.arena.peak()};
}

TEST(VlmTraining, RebuildingGivesEqualBitsInLessMemory) {
  for (const std::string trained : {"default", "", "lang_decoder.model.layers.1.mlp."}) {
    VlmConfig config = small_config();
    if (trained == "default") config.lang_lora = language_rig::lora("model.layers.");
    const auto [plain, saving] = peaks_of_rebuilding(config, trained);
    // Of eight blocks, or seven above the lowest that is trained, one remains shared by all, and
    // the last is of labelled rows only.
    const MicroBatch batch = mixed_batch(config);
    const int64_t rows = batch.num_tokens() + batch.num_images() * (config.image_tokens() - 1);
    const int64_t block = rows * (2 * config.lm.hidden_size + config.lm.intermediate_size);
    EXPECT_LE(saving + 5 * block * 4, plain) << trained;
  }
}

// No gradient passes the first norm of the lowest block that is trained, which may be the last, of
// labelled rows; and with magnitudes and biases.
TEST(VlmTraining, RebuildingGivesEqualBitsWhereLittleOrAllIsTrained) {
  VlmConfig config = small_config();
  const std::string block = "lang_decoder.model.layers.";
  for (const char* const alone : {"1.self_attn.", "1.mlp.", "7.self_attn.", "7.input_layernorm"})
    peaks_of_rebuilding(config, block + alone, Rig::Others::kFrozen);
  config.lm.qkv_bias = true;
  config.lang_lora = language_rig::lora("model.layers.");
  config.lang_lora.dora = true;
  for (const std::string trained : {"default", ""}) peaks_of_rebuilding(config, trained);
}

// ---- labelled rows

// Queries and what follows them in the last block, and the head.
TEST(VlmTraining, TheEndRunsOnLabelledRowsOnly) {
  const VlmConfig config = small_config();
  Rig rig(config);
  const auto flops = [&](size_t prompt) {
    MicroBatch batch;
    language_rig::add_sample(batch, config, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, prompt, "x");
    const int64_t before = rig.ops.counts().matmul_flops;
    rig.train(batch);
    return rig.ops.counts().matmul_flops - before;
  };
  const auto query_rows = [&](size_t prompt) {
    const int64_t before = rig.ops.counts().attention_query_rows;
    flops(prompt);
    return rig.ops.counts().attention_query_rows - before;
  };
  // Forward, gradient of the rows, gradient of the weight: three products a row.
  const LlamaConfig& lm = config.lm;
  const int64_t query = lm.num_attention_heads * lm.head_dim * lm.hidden_size, out = query;
  const int64_t mlp = 3 * lm.intermediate_size * lm.hidden_size;
  EXPECT_EQ(flops(2) - flops(7), 5 * 3 * 2 * (query + out + mlp + lm.hidden_size * lm.vocab_size));
  EXPECT_EQ(query_rows(2) - query_rows(7), 5);
}

TEST(VlmTraining, LogitsExistOneChunkAtATime) {
  VlmConfig config = small_config();
  config.lm.vocab_size = 3000;
  MicroBatch batch;
  language_rig::add_sample(batch, config, std::vector<int32_t>(40, 5), 1, "x");
  const auto peak = [&](int64_t rows) {
    config.max_labelled_rows_per_chunk = rows;
    Rig rig(config, "default");
    rig.train(batch);
    return rig.arena.peak();
  };
  const int64_t row = config.lm.vocab_size * 4;
  EXPECT_GE(peak(39) - peak(3), 35 * row);
}

// ---- hooks

// Every unit between its own before and after, ready once, in the order of use.
TEST(VlmTraining, HooksGoRoundEveryUnit) {
  VlmConfig config = small_config();
  config.lm.num_hidden_layers = 1;
  config.vision.num_hidden_layers = 1;
  Rig rig(config, "default");
  rig.train(mixed_batch(config));
  const std::vector<std::string> expected = {"before forward vis_encoder.embeddings",
                                             "after forward vis_encoder.embeddings",
                                             "before forward vis_encoder.layers.0",
                                             "after forward vis_encoder.layers.0",
                                             "before forward projection",
                                             "after forward projection",
                                             "before forward lang_embed",
                                             "after forward lang_embed",
                                             "before forward lang_decoder.layers.0",
                                             "after forward lang_decoder.layers.0",
                                             "before backward lang_decoder.head",
                                             "after backward lang_decoder.head",
                                             "ready lang_decoder.head",
                                             "before backward lang_decoder.layers.0",
                                             "after backward lang_decoder.layers.0",
                                             "ready lang_decoder.layers.0",
                                             "ready lang_decoder.embed_tokens",
                                             "before backward lang_embed",
                                             "after backward lang_embed",
                                             "ready lang_embed",
                                             "before backward projection",
                                             "after backward projection",
                                             "ready projection",
                                             "ready vis_encoder.layers.0",
                                             "ready vis_encoder.embeddings"};
  EXPECT_EQ(rig.hooks.events, expected);
}

MicroBatch batch_without_images(const VlmConfig& config) {
  MicroBatch batch;
  language_rig::add_sample(batch, config, {1, 2, 3, 4}, 2, "x");
  return batch;
}

MicroBatch batch_without_labels(const VlmConfig& config) {
  MicroBatch batch = mixed_batch(config);
  std::fill(batch.labels.begin(), batch.labels.end(), kIgnoredLabel);
  return batch;
}

TEST(VlmTraining, HooksDoNotDependOnTheBatch) {
  for (const std::string trained : {"default", "", "vis_encoder.vision_model.encoder.layers.1."}) {
    for (const bool recompute : {false, true}) {
      VlmConfig config = small_config();
      config.recompute = recompute;
      Rig rig(config, trained);
      std::vector<std::vector<std::string>> events;
      MicroBatch no_samples;
      no_samples.image_size = 6;
      for (const MicroBatch& batch : {mixed_batch(config), batch_without_images(config),
                                      batch_without_labels(config), no_samples}) {
        rig.hooks.events.clear();
        rig.train(batch);
        events.push_back(rig.hooks.events);
      }
      for (const ParamUnit& unit : rig.table.units())
        EXPECT_EQ(std::count(events[0].begin(), events[0].end(), "ready " + unit.name), 1)
            << unit.name;
      EXPECT_EQ(events[1], events[0]) << "no images";
      EXPECT_EQ(events[2], events[0]) << "no labels";
      EXPECT_EQ(events[3], events[0]) << "no samples";
    }
  }
}

TEST(VlmTraining, ABatchWithoutLabelsOrSamplesAddsZero) {
  const VlmConfig config = small_config();
  Rig rig(config);
  MicroBatch no_samples;
  for (const MicroBatch& batch : {batch_without_labels(config), no_samples}) {
    const LossSums sums = rig.train(batch);
    EXPECT_EQ(sums.total_loss(), 0);
    EXPECT_EQ(sums.total_labelled(), 0);
    EXPECT_EQ(static_cast<int64_t>(sums.loss.size()), batch.num_samples());
    LossSums evaluated;
    rig.model.evaluate(rig.ctx, batch, evaluated);
    EXPECT_EQ(evaluated.total_loss(), 0);
  }
  EXPECT_EQ(largest(rig.gradients()), 0);
  EXPECT_EQ(rig.arena.used(), 0);
}

// ---- independence

TEST(VlmTraining, ALaterTokenNeverChangesAnEarlierLogit) {
  for (const bool mmca : {false, true}) {
    VlmConfig config = small_config();
    config.mmca = mmca;
    Rig rig(config, "default");
    const auto logits = [&](int32_t token, const std::string& picture) {
      MicroBatch batch;
      language_rig::add_sample(batch, config, {1, 4, token, 6, kImage, 8, 9}, 1, picture);
      return rig.logits(batch);
    };
    const std::vector<float> here = logits(5, "a"), other_token = logits(25, "a"),
                             other_image = logits(5, "b");
    const auto equal_rows = [&](const std::vector<float>& there) {
      size_t equal = 0;
      while (equal < here.size() && here[equal] == there[equal]) ++equal;
      return static_cast<int64_t>(equal) / config.lm.vocab_size;
    };
    EXPECT_EQ(equal_rows(other_token), 2);
    EXPECT_EQ(equal_rows(other_image), 4);
    EXPECT_EQ(equal_rows(logits(5, "a")), 11);
  }
}

TEST(VlmTraining, APackedBatchEqualsItsSamples) {
  for (const bool mmca : {false, true}) {
    VlmConfig config = small_config();
    config.mmca = mmca;
    Rig rig(config, "default");
    MicroBatch packed, first, second;
    const std::vector<int32_t> a = {1, 7, kImage, 3, 12}, b = {1, kImage, 4, kImage, 8, 2};
    language_rig::add_sample(packed, config, a, 1, "a");
    language_rig::add_sample(packed, config, b, 1, "b");
    language_rig::add_sample(first, config, a, 1, "a");
    language_rig::add_sample(second, config, b, 1, "b");
    const std::vector<float> together = rig.logits(packed);
    std::vector<double> apart;
    for (const MicroBatch& single : {first, second})
      for (const float x : rig.logits(single)) apart.push_back(x);
    EXPECT_LE(vision_rig::relative_error(together, apart), 1e-6);
    const LossSums sums = rig.train(packed);
    EXPECT_NEAR(sums.loss[0], rig.train(first).loss[0], 1e-5);
    EXPECT_NEAR(sums.loss[1], rig.train(second).loss[0], 1e-5);
  }
}

// ---- memory

TEST(VlmTraining, ADryRunMeasuresTheArena) {
  for (const bool recompute : {false, true}) {
    VlmConfig config = small_config();
    config.recompute = recompute;
    config.mmca = true;
    const MicroBatch batch = mixed_batch(config);
    Rig rig(config);
    rig.train(batch);
    ParamTable table;
    VisionLanguageModel model(config, table);
    table.set_trained("", true);
    table.allocate(1, ParamTable::Memory::kMeasureOnly);
    table.allocate_gradients();
    NullBackend ops;
    Arena arena("activations");
    UnitHooks hooks;
    Context ctx{ops, arena, hooks};
    LossSums sums;
    model.forward_backward(ctx, batch, 1, sums);
    EXPECT_EQ(arena.peak(), rig.arena.peak());
    EXPECT_EQ(arena.used(), 0);
  }
}

// Tensor cores take rows that begin on 16-byte boundaries; an odd vocabulary's would not.
TEST(VlmTraining, RowsOfLogitsAreAlignedWhateverTheVocabulary) {
  constexpr int64_t kVocabulary = 51;
  class Watcher : public NullBackend {
   public:
    Tensor logits, used;

   private:
    void do_linear_forward(Tensor y, Tensor, Tensor weight, Tensor, Tensor) override {
      if (weight.rows() == kVocabulary) logits = y;
    }
    void do_cross_entropy_forward_backward(Tensor, Tensor x, Tensor, float) override { used = x; }
  };
  VlmConfig config = small_config();
  config.lm.vocab_size = kVocabulary;
  for (const auto& [dtype, stride] : {std::pair{DType::kF32, 52}, std::pair{DType::kBF16, 56}}) {
    ParamTable table;
    VisionLanguageModel model(config, table);
    table.allocate(1, ParamTable::Memory::kMeasureOnly, dtype);
    table.allocate_gradients();
    Watcher ops;
    Arena arena("activations");
    UnitHooks hooks;
    Context ctx{ops, arena, hooks, dtype};
    LossSums sums;
    model.forward_backward(ctx, mixed_batch(config), 1, sums);
    for (const Tensor& x : {ops.logits, ops.used}) {
      EXPECT_EQ(x.cols(), kVocabulary);
      EXPECT_EQ(x.row_stride(), stride);
    }
  }
}

TEST(VlmTraining, TheSecondStepAllocatesNothing) {
  VlmConfig config = small_config();
  config.mmca = true;
  config.lang_lora = language_rig::lora("model.layers.");
  for (const bool recompute : {false, true}) {
    config.recompute = recompute;
    ParamTable table;
    VisionLanguageModel model(config, table);
    table.allocate(1, ParamTable::Memory::kMeasureOnly);
    table.allocate_gradients();
    NullBackend ops;
    Arena arena("activations");
    UnitHooks hooks;
    Context ctx{ops, arena, hooks};
    LossSums sums;
    const MicroBatch batch = mixed_batch(config), smaller = batch_without_images(config);
    model.forward_backward(ctx, batch, 1, sums);
    const int64_t before = allocation_counter::count();
    model.forward_backward(ctx, batch, 1, sums);
    model.forward_backward(ctx, smaller, 1, sums);
    model.evaluate(ctx, batch, sums);
    EXPECT_EQ(allocation_counter::count() - before, 0) << "recompute " << recompute;
  }
}

// The operators keep their scratch memory. What oneDNN takes inside a product is its own: it does
// not come from operator new.
TEST(VlmTraining, TheSecondStepOfTheOperatorsAllocatesNothing) {
  VlmConfig config = small_config();
  config.mmca = true;
  config.image_size = 9;  // positions are resized
  config.lang_lora = language_rig::lora("model.layers.");
  const MicroBatch batch = mixed_batch(config);
  Rig rig(config, "", 2);
  UnitHooks hooks;
  Context ctx{rig.ops, rig.arena, hooks};
  LossSums sums;
  const auto step = [&] {
    rig.model.forward_backward(ctx, batch, 1, sums);
    for (const ParamUnit& unit : rig.table.units()) rig.ops.gradient_statistics(unit.trained_grads);
    for (const ParamUnit& unit : rig.table.units())
      rig.ops.adamw_step(unit.trained_values, unit.trained_grads, unit.trained_grads, Tensor(),
                         unit.trained_grads, {});
  };
  step();
  const int64_t before = allocation_counter::count();
  step();
  rig.model.evaluate(ctx, batch, sums);
  EXPECT_EQ(allocation_counter::count() - before, 0);
}

}  // namespace
}  // namespace facet
