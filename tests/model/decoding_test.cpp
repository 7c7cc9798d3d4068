// Decoding with a key/value cache against recomputing the whole sequence.
#include <gtest/gtest.h>

#include <string>

#include "tests/model/language_rig.h"

namespace facet {
namespace {

using language_rig::kImage;
using language_rig::Rig;
using Decoding = VisionLanguageModel::Decoding;

// A conversation grows piece by piece; all of it so far is kept as one sample.
class Conversation {
 public:
  explicit Conversation(const VlmConfig& config) : config_(config) {}

  MicroBatch piece(const std::vector<int32_t>& ids) {
    MicroBatch batch;
    language_rig::add_sample(batch, config_, ids, ids.size(),
                             "piece " + std::to_string(whole_.token_ids.size()));
    whole_.token_ids.insert(whole_.token_ids.end(), ids.begin(), ids.end());
    whole_.pixels.insert(whole_.pixels.end(), batch.pixels.begin(), batch.pixels.end());
    images_ += batch.images_per_sample[0];
    return batch;
  }
  const MicroBatch& whole() {
    whole_.labels.assign(whole_.token_ids.size(), kIgnoredLabel);
    whole_.sample_begin = {0, static_cast<int32_t>(whole_.token_ids.size())};
    whole_.images_per_sample = {images_};
    whole_.image_token_id = kImage;
    whole_.image_size = static_cast<int32_t>(config_.image_size);
    return whole_;
  }

 private:
  VlmConfig config_;
  MicroBatch whole_;
  int32_t images_ = 0;
};

void expect_last_row(const std::vector<float>& cached, const std::vector<float>& all,
                     const std::string& when) {
  const std::vector<double> last(all.end() - static_cast<std::ptrdiff_t>(cached.size()), all.end());
  EXPECT_LE(vision_rig::relative_error(cached, last), 2e-6) << when;
}

// Appends to the decoding and to the conversation, and compares.
class Pair {
 public:
  explicit Pair(const VlmConfig& config)
      : rig_(config, "default"), talk_(config), decoding_(rig_.model, rig_.ctx, 60) {}

  void append(const std::vector<int32_t>& ids) {
    const std::vector<float> cached = decoding_.append(talk_.piece(ids));
    expect_last_row(cached, rig_.logits(talk_.whole()), std::to_string(ids.size()) + " tokens");
  }
  void append_token(int32_t token) {
    const std::vector<float> cached = decoding_.append_token(token);
    talk_.piece({token});
    const std::vector<float> all = rig_.logits(talk_.whole());
    expect_last_row(cached, all, "token " + std::to_string(token));
    EXPECT_EQ(decoding_.length() * rig_.config.lm.vocab_size, static_cast<int64_t>(all.size()));
  }

 private:
  Rig rig_;
  Conversation talk_;
  Decoding decoding_;
};

// Two rounds with images, single tokens between and after them.
void expect_cache_equals_recomputing(const VlmConfig& config,
                                     const std::vector<int32_t>& second_round) {
  Pair pair(config);
  pair.append({1, 5, kImage, 6, 7});
  for (const int32_t token : {12, 3, 44, 2}) pair.append_token(token);
  pair.append(second_round);
  pair.append_token(30);
}

const std::vector<int32_t> kWithImages = {8, kImage, kImage, 19}, kTextOnly = {8, 19, 20};

TEST(Decoding, TheCacheEqualsRecomputing) {
  expect_cache_equals_recomputing(language_rig::small_config(), kWithImages);
}

TEST(Decoding, TheCacheEqualsRecomputingWithMmca) {
  VlmConfig config = language_rig::small_config();
  config.mmca = true;
  expect_cache_equals_recomputing(config, kWithImages);
  config.compat_visualchat = true;  // here a later image reaches back, so only text comes later
  expect_cache_equals_recomputing(config, kTextOnly);
}

TEST(Decoding, TheCacheEqualsRecomputingWithWindows) {
  VlmConfig config = language_rig::small_config();
  config.lm.sliding_window = 7;
  expect_cache_equals_recomputing(config, kWithImages);
  config.mmca = true;
  config.lm.window_layers = {1, 0};
  config.lm.qkv_bias = true;
  expect_cache_equals_recomputing(config, kWithImages);
}

TEST(Decoding, TheCacheEqualsRecomputingWhereDynamicScalingMovesOldKeys) {
  VlmConfig config = language_rig::small_config();
  config.lm.rope_scaling.type = RopeScaling::Type::kDynamic;
  config.lm.rope_scaling.factor = 2;
  config.lm.max_position_embeddings = 11;
  expect_cache_equals_recomputing(config, kWithImages);
  config.mmca = true;
  expect_cache_equals_recomputing(config, kWithImages);
}

// By the first forward alone; but anew by a decoding that begins when the weights are others.
TEST(Decoding, FindsTheNormsOfDoraOnce) {
  VlmConfig config = language_rig::small_config();
  config.lang_lora = language_rig::lora("model.layers.");
  config.lang_lora.dora = true;
  expect_cache_equals_recomputing(config, kWithImages);
  Rig rig(config, "default");
  const auto calls = [&](const auto& forward) {
    const int64_t before = rig.ops.counts().calls;
    forward();
    return rig.ops.counts().calls - before;
  };
  const auto logits_equal_those_of_all_rows = [&](const char* when) {
    Conversation talk(config);
    Decoding decoding(rig.model, rig.ctx, 60);
    int64_t first = 0, second = 0, third = 0;
    first = calls([&] { decoding.append(talk.piece({1})); });
    second = calls([&] { decoding.append_token(5); });
    std::vector<float> logits;
    third = calls([&] { logits = decoding.append_token(6); });
    EXPECT_EQ(first - second, 7 * config.lm.num_hidden_layers) << when;
    EXPECT_EQ(second, third) << when;
    talk.piece({5, 6});
    expect_last_row(logits, rig.logits(talk.whole()), when);
  };
  logits_equal_those_of_all_rows("at first");
  for (Param& param : rig.table.params())
    if (param.name.ends_with(".lora_left_weight"))
      for (int64_t i = 0; i < param.numel(); ++i) param.value.f32()[i] += 0.1f;
  logits_equal_those_of_all_rows("after a step");
}

// What follows a rewind is as if what was forgotten had never been said.
void expect_nothing_of_what_was_forgotten(const VlmConfig& config) {
  Rig rig(config, "default");
  const std::vector<int32_t> question = {1, 5, kImage, 6, 7}, forgotten = {40, 41, 42, 43};
  const auto logits_after = [&](bool rewinds) {
    Conversation talk(config);
    Decoding decoding(rig.model, rig.ctx, 60);
    decoding.append(talk.piece(question));
    const int64_t asked = decoding.length();
    if (rewinds) {
      for (const int32_t token : forgotten) decoding.append_token(token);
      decoding.rewind(asked);
    }
    decoding.append_token(12);
    return decoding.append_token(3);
  };
  EXPECT_EQ(logits_after(true), logits_after(false));
}

TEST(Decoding, ARewindForgets) {
  VlmConfig config = language_rig::small_config();
  expect_nothing_of_what_was_forgotten(config);
  config.mmca = true;
  expect_nothing_of_what_was_forgotten(config);
}

// The cached keys were turned by the angles of the longer conversation.
TEST(Decoding, ARewindTakesDynamicScalingBack) {
  VlmConfig config = language_rig::small_config();
  config.lm.rope_scaling.type = RopeScaling::Type::kDynamic;
  config.lm.rope_scaling.factor = 2;
  config.lm.max_position_embeddings = 11;  // the question with its image has 9
  expect_nothing_of_what_was_forgotten(config);
}

TEST(Decoding, ATokenIsOneQueryRowPerBlock) {
  const VlmConfig config = language_rig::small_config();
  Rig rig(config, "default");
  Conversation talk(config);
  Decoding decoding(rig.model, rig.ctx, 60);
  decoding.append(talk.piece({1, 5, kImage, 6}));
  for (int32_t token = 10; token < 15; ++token) {
    const int64_t before = rig.ops.counts().attention_query_rows;
    decoding.append_token(token);
    EXPECT_EQ(rig.ops.counts().attention_query_rows - before, config.lm.num_hidden_layers);
  }
}

TEST(Decoding, AFullCacheIsOneClearError) {
  const VlmConfig config = language_rig::small_config();
  Rig rig(config, "default");
  Conversation talk(config);
  {
    Decoding decoding(rig.model, rig.ctx, 4);
    decoding.append(talk.piece({1, 5, 6}));
    decoding.append_token(7);
    EXPECT_THROW(decoding.append_token(8), Error);
    EXPECT_EQ(decoding.length(), 4);
  }
  EXPECT_EQ(rig.arena.used(), 0);
}

}  // namespace
}  // namespace facet
