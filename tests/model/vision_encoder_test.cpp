#include "model/vision_encoder.h"

#include <gtest/gtest.h>

#include "tests/model/vision_rig.h"

namespace facet {
namespace {

using vision_rig::Mat;
using vision_rig::Params;

VlmConfig small_config() {
  VlmConfig config;
  config.vision.hidden_size = 14;
  config.vision.intermediate_size = 23;
  config.vision.num_hidden_layers = 4;
  config.vision.num_attention_heads = 2;
  config.vision.image_size = 9;
  config.vision.patch_size = 3;
  config.lm.hidden_size = 10;
  config.image_size = 9;
  return config;
}

// Images of 11 pixels leave a margin of 2.
VlmConfig small_siglip() {
  VlmConfig config = small_config();
  config.vision.family = VisionFamily::kSiglip;
  config.vision.hidden_act = Activation::kGeluTanh;
  config.vision.image_size = config.image_size = 11;
  return config;
}

// Positions and the pool's keys are resized from 9 and 4 places to 25.
VlmConfig small_qwen_vl() {
  VlmConfig config = small_config();
  config.vision.family = VisionFamily::kQwenVl;
  config.vision.hidden_act = Activation::kGelu;
  config.vision.pool_queries = 4;
  config.vision.pool_width = 128;
  config.image_size = 15;
  return config;
}

LoraConfig lora_on_blocks() {
  LoraConfig lora;
  lora.rank = 3;
  lora.alpha = 2;
  lora.module_name = "encoder.layers.";
  return lora;
}

// The encoder with drawn parameters, some of them trained.
struct Rig {
  Rig(const VlmConfig& c, const std::string& trained)
      : config(c), vision(table, config), hooks(table), arena("test", 64 << 20) {
    if (!trained.empty()) {
      EXPECT_GT(table.set_trained(trained, true), 0);
    }
    for (Param& param : table.params()) param.trained |= param.role == ParamRole::kLora;
    params = vision_rig::fill(table);
  }
  Mat pixels(int64_t images) const {
    return vision_rig::random_mat(images, 3 * config.image_size * config.image_size, "pixels");
  }
  Tensor pixel_tensor(const Mat& pixels) {
    const Tensor t = arena.tensor({pixels.rows, 3, config.image_size, config.image_size});
    vision_rig::set(t, pixels);
    return t;
  }
  // Features; then the gradient of sum(weights * features) is in the table.
  std::vector<float> run(const Mat& pixels, const Mat& weights) {
    ArenaScope scope(arena);
    const Tensor features = vision.forward(ctx, pixel_tensor(pixels), Keep::kForBackward);
    std::vector<float> result = vision_rig::floats_of(features);
    const Tensor dfeatures = arena.tensor({features.rows(), features.cols()});
    vision_rig::set(dfeatures, weights);
    vision.backward(ctx, dfeatures);
    return result;
  }
  Mat weights(int64_t images) const {
    return vision_rig::random_mat(images * config.vision_tokens(), config.vision.feature_width(),
                                  "G");
  }

  VlmConfig config;
  ParamTable table;
  VisionEncoder vision;
  vision_rig::RecordingHooks hooks;
  Arena arena;
  CpuBackend ops{2};
  Context ctx{ops, arena, hooks};
  Params params;
};

void expect_all_gradients(Rig& rig, int64_t images) {
  const Mat pixels = rig.pixels(images), weights = rig.weights(images);
  const std::vector<float> features = rig.run(pixels, weights);
  EXPECT_LE(vision_rig::relative_error(features,
                                       vision_reference::encode(rig.params, rig.config, pixels).a),
            2e-6);
  const auto functional = [&] {
    return vision_rig::dot(vision_reference::encode(rig.params, rig.config, pixels).a, weights.a);
  };
  vision_rig::expect_gradients(vision_rig::trained_gradients(rig.table, rig.params), 3, functional);
}

TEST(VisionEncoder, FeaturesAndEveryGradientMatchFp64) {
  for (const Activation activation : {Activation::kQuickGelu, Activation::kGelu}) {
    VlmConfig config = small_config();
    config.vision.hidden_act = activation;
    config.vis_lora = lora_on_blocks();
    Rig rig(config, "vis_encoder.");
    expect_all_gradients(rig, 3);
  }
}

TEST(VisionEncoder, SiglipsFeaturesAndEveryGradientMatchFp64) {
  VlmConfig config = small_siglip();
  config.vis_lora = lora_on_blocks();
  Rig rig(config, "vis_encoder.");
  EXPECT_EQ(config.vision_tokens(), 9);
  EXPECT_EQ(rig.table.find("vis_encoder.vision_model.embeddings.class_embedding"), nullptr);
  EXPECT_EQ(rig.table.find("vis_encoder.vision_model.pre_layrnorm.weight"), nullptr);
  EXPECT_TRUE(rig.table.find("vis_encoder.vision_model.post_layernorm.weight")->trained);
  expect_all_gradients(rig, 3);
}

TEST(VisionEncoder, SiglipsPositionsAreResizedWithTheirGradient) {
  for (const int64_t image_size : {6, 16}) {
    VlmConfig config = small_siglip();
    config.image_size = image_size;
    Rig rig(config, "vis_encoder.vision_model.embeddings.");
    expect_all_gradients(rig, 2);
  }
}

TEST(VisionEncoder, SiglipsEarlierFeatureLayersAreNotNormed) {
  VlmConfig config = small_siglip();
  config.vision_feature_layer = -2;
  Rig rig(config, "vis_encoder.");
  EXPECT_FALSE(rig.table.find("vis_encoder.vision_model.post_layernorm.weight")->trained);
  expect_all_gradients(rig, 2);
}

TEST(VisionEncoder, PositionsOfAnotherImageSizeAreResizedWithTheirGradient) {
  for (const int64_t image_size : {6, 15}) {
    VlmConfig config = small_config();
    config.image_size = image_size;
    Rig rig(config, "vis_encoder.vision_model.embeddings.");
    expect_all_gradients(rig, 2);
  }
}

TEST(VisionEncoder, EarlierFeatureLayerAndNoClassToken) {
  VlmConfig config = small_config();
  config.vision_feature_layer = -2;
  config.drop_class_token = true;
  config.vis_lora = lora_on_blocks();
  Rig rig(config, "vis_encoder.");
  EXPECT_EQ(rig.table.find("vis_encoder.vision_model.encoder.layers.3.mlp.fc1.lora_left_weight"),
            nullptr);
  EXPECT_FALSE(rig.table.find("vis_encoder.vision_model.encoder.layers.3.mlp.fc1.weight")->trained);
  EXPECT_FALSE(rig.table.find("vis_encoder.vision_model.post_layernorm.weight")->trained);
  expect_all_gradients(rig, 2);
}

// Where products are such that a row's last bits depend on how many others there are: 5 rows of 32
// by 96, from 4 images on, with AVX-512; almost any with AVX2.
VlmConfig config_of_five_tokens() {
  VlmConfig config = small_config();
  config.vision.hidden_size = 32;
  config.vision.intermediate_size = 96;
  config.vision.image_size = config.image_size = 6;
  config.vision_image_by_image = true;
  return config;
}

// Pixels of the images of `all` that are named.
MicroBatch images_of(const Rig& rig, const Mat& all, const std::vector<int64_t>& named) {
  MicroBatch batch;
  for (const int64_t image : named)
    for (int64_t i = 0; i < all.cols; ++i)
      batch.pixels.push_back(static_cast<float>(all.a[static_cast<size_t>(image * all.cols + i)]));
  batch.image_size = static_cast<int32_t>(rig.config.image_size);
  batch.images_per_sample = {static_cast<int32_t>(named.size())};
  return batch;
}

std::vector<float> seen(Rig& rig, const MicroBatch& batch, FeatureSink* sink = nullptr) {
  ArenaScope scope(rig.arena);
  return vision_rig::floats_of(
      rig.vision.see(rig.ctx, batch, batch.num_images(), Keep::kForBackward, sink));
}

TEST(VisionEncoder, ImageByImageFeaturesDoNotDependOnTheOthers) {
  Rig rig(config_of_five_tokens(), "");
  const Mat pixels = rig.pixels(6);
  const std::vector<float> together = seen(rig, images_of(rig, pixels, {0, 1, 2, 3, 4, 5}));
  std::vector<float> alone;
  for (int64_t image = 0; image < 6; ++image) {
    const std::vector<float> one = seen(rig, images_of(rig, pixels, {image}));
    alone.insert(alone.end(), one.begin(), one.end());
  }
  EXPECT_EQ(together, alone);
  EXPECT_LE(vision_rig::relative_error(together,
                                       vision_reference::encode(rig.params, rig.config, pixels).a),
            2e-6);
}

struct RecordingSink final : FeatureSink {
  void given(int64_t images) override { num_given += images; }
  void computed(const ImageKey& key, std::span<const std::byte> features) override {
    keys.push_back(key);
    values.insert(values.end(), features.begin(), features.end());
  }
  int64_t num_given = 0;
  std::vector<ImageKey> keys;
  std::vector<std::byte> values;
};

TEST(VisionEncoder, GivenFeaturesTakeTheirPlacesAndOnlyOthersAreComputed) {
  for (const bool drop_class_token : {false, true}) {
    VlmConfig config = config_of_five_tokens();
    config.drop_class_token = drop_class_token;
    Rig rig(config, "");
    const Mat pixels = rig.pixels(4);
    const auto operations = [&](const MicroBatch& batch, std::vector<float>& features,
                                RecordingSink& sink) {
      const OpCounts before = rig.ops.counts();
      features = seen(rig, batch, &sink);
      return rig.ops.counts().matmul_flops - before.matmul_flops +
             rig.ops.counts().attention_flops - before.attention_flops;
    };
    MicroBatch all = images_of(rig, pixels, {0, 1, 2, 3});
    all.features.keys = {{1, 0}, {2, 0}, {3, 0}, {4, 0}};
    all.features.is_given = {0, 0, 0, 0};
    std::vector<float> expected, features;
    RecordingSink first, second, third;
    const int64_t of_all = operations(all, expected, first);
    EXPECT_EQ(first.keys, all.features.keys);
    const size_t bytes = first.values.size() / 4;
    const auto values_of = [&](size_t image) {
      return std::span(first.values).subspan(image * bytes, bytes);
    };

    MicroBatch some = images_of(rig, pixels, {0, 2});
    some.images_per_sample = {4};
    some.features = {all.features.keys, {0, 1, 0, 1}, {}};
    for (const size_t image : {1, 3})
      for (const std::byte b : values_of(image)) some.features.values.push_back(b);
    rig.hooks.events.clear();
    EXPECT_EQ(operations(some, features, second), of_all / 2);
    const std::vector<std::string> events = rig.hooks.events;
    EXPECT_EQ(features, expected);
    EXPECT_EQ(second.num_given, 2);
    EXPECT_EQ(second.keys, (std::vector<ImageKey>{{1, 0}, {3, 0}}));

    MicroBatch none = images_of(rig, pixels, {});
    none.images_per_sample = {4};
    none.features = {all.features.keys, {1, 1, 1, 1}, first.values};
    rig.hooks.events.clear();
    EXPECT_EQ(operations(none, features, third), 0);
    EXPECT_EQ(features, expected);
    EXPECT_EQ(rig.hooks.events, events);  // every rank asks for the same units
    EXPECT_TRUE(third.keys.empty());
  }
}

TEST(VisionEncoder, RecomputeGivesTheSameBitsAndHalvesTheArena) {
  std::vector<float> features[2], gradients[2];
  int64_t peak[2];
  for (const int64_t recompute : {0, 1}) {
    VlmConfig config = small_config();
    config.recompute = recompute == 1;
    config.vis_lora = lora_on_blocks();
    Rig rig(config, "");
    features[recompute] = rig.run(rig.pixels(2), rig.weights(2));
    peak[recompute] = rig.arena.peak();
    for (const Param& param : rig.table.params())
      if (param.trained)
        for (const float g : vision_rig::floats_of(param.grad)) gradients[recompute].push_back(g);
  }
  EXPECT_EQ(features[0], features[1]);
  EXPECT_EQ(gradients[0], gradients[1]);
  EXPECT_GT(vision_rig::norm({gradients[1].begin(), gradients[1].end()}), 0);
  EXPECT_LE(2 * peak[1], peak[0]);
}

// The LoRA matrices of the lowest block would be missed if frozen inputs cut the backward pass off.
TEST(VisionEncoder, LoraGradientsUnderRecomputeMatchFp64) {
  for (VlmConfig config : {small_config(), small_siglip()}) {
    config.recompute = true;
    config.vis_lora = lora_on_blocks();
    Rig rig(config, "");
    ASSERT_TRUE(rig.vision.needs_backward());
    expect_all_gradients(rig, 2);
  }
}

TEST(VisionEncoder, FrozenKeepsNothingAndOnlyAnnounces) {
  Rig rig(small_config(), "");
  ASSERT_FALSE(rig.vision.needs_backward());
  const Mat pixels = rig.pixels(2);
  const Tensor input = rig.pixel_tensor(pixels);
  const Arena::Mark mark = rig.arena.mark();
  const Tensor features = rig.vision.forward(rig.ctx, input, Keep::kForBackward);
  EXPECT_LE(rig.arena.used() - mark, features.bytes() + 64);
  rig.hooks.events.clear();
  rig.vision.backward(rig.ctx, Tensor());
  EXPECT_EQ(rig.hooks.events,
            (std::vector<std::string>{"ready vis_encoder.layers.3", "ready vis_encoder.layers.2",
                                      "ready vis_encoder.layers.1", "ready vis_encoder.layers.0",
                                      "ready vis_encoder.embeddings"}));
}

TEST(VisionEncoder, HooksFrameEachUnitFromTheLowestTrainedOne) {
  VlmConfig config = small_config();
  config.vision.num_hidden_layers = 2;
  config.recompute = true;
  const std::vector<std::string> forward = {
      "before forward vis_encoder.embeddings", "after forward vis_encoder.embeddings",
      "before forward vis_encoder.layers.0",   "after forward vis_encoder.layers.0",
      "before forward vis_encoder.layers.1",   "after forward vis_encoder.layers.1"};
  const std::vector<std::string> backward = {
      "before backward vis_encoder.layers.1", "before recompute vis_encoder.layers.1",
      "after recompute vis_encoder.layers.1", "after backward vis_encoder.layers.1",
      "ready vis_encoder.layers.1",           "ready vis_encoder.layers.0",
      "ready vis_encoder.embeddings"};
  Rig rig(config, "vis_encoder.vision_model.encoder.layers.1.mlp.fc2.bias");
  std::vector<std::string> both = forward;
  both.insert(both.end(), backward.begin(), backward.end());
  rig.run(rig.pixels(1), rig.weights(1));
  EXPECT_EQ(rig.hooks.events, both);

  rig.hooks.events.clear();
  rig.run(rig.pixels(0), rig.weights(0));
  EXPECT_EQ(rig.hooks.events, both) << "a micro-batch without images calls the same hooks";

  rig.hooks.events.clear();
  rig.vision.skip_backward(rig.ctx);
  EXPECT_EQ(rig.hooks.events, backward);
}

TEST(VisionEncoder, TheNormBehindTheBlocksIsAUnitOfItsOwn) {
  VlmConfig config = small_siglip();
  config.vision.num_hidden_layers = 1;
  config.recompute = true;
  Rig rig(config, "vis_encoder.vision_model.post_layernorm.bias");
  const std::vector<std::string> events = {"before forward vis_encoder.embeddings",
                                           "after forward vis_encoder.embeddings",
                                           "before forward vis_encoder.layers.0",
                                           "after forward vis_encoder.layers.0",
                                           "before forward vis_encoder.post_layernorm",
                                           "after forward vis_encoder.post_layernorm",
                                           "before backward vis_encoder.post_layernorm",
                                           "after backward vis_encoder.post_layernorm",
                                           "ready vis_encoder.post_layernorm",
                                           "ready vis_encoder.layers.0",
                                           "ready vis_encoder.embeddings"};
  for (const int64_t images : {1, 0}) {
    rig.hooks.events.clear();
    rig.run(rig.pixels(images), rig.weights(images));
    EXPECT_EQ(rig.hooks.events, events) << images;
  }
}

// Its values are compared with the original's elsewhere (tests/golden).
TEST(VisionEncoder, QwenVlTrainsInPartsAsAWhole) {
  VlmConfig config = small_qwen_vl();
  EXPECT_EQ(config.vision_tokens(), 4);
  Rig whole(config, "vis_encoder.");
  const Mat pixels = whole.pixels(3), weights = whole.weights(3);
  const std::vector<float> features = whole.run(pixels, weights);
  EXPECT_FALSE(whole.table.find("vis_encoder.attn_pool.pos_embed")->trained);
  config.recompute = true;
  for (const char* part : {"vis_encoder.attn_pool.kv_proj.", "vis_encoder.ln_post.",
                           "vis_encoder.transformer.resblocks.2.", "vis_encoder.conv1."}) {
    Rig rig(config, part);
    EXPECT_TRUE(rig.vision.needs_backward());
    EXPECT_EQ(rig.run(pixels, weights), features) << part;
    for (const Param& param : rig.table.params()) {
      if (!param.trained) continue;
      EXPECT_EQ(vision_rig::floats_of(param.grad),
                vision_rig::floats_of(whole.table.find(param.name)->grad))
          << param.name;
    }
  }
  config.vision_image_by_image = true;
  Rig frozen(config, "");
  EXPECT_FALSE(frozen.vision.needs_backward());
  const std::vector<double> expected(features.begin(), features.end());
  EXPECT_LE(vision_rig::relative_error(frozen.run(pixels, weights), expected), 1e-6);
}

TEST(VisionEncoder, QwenVlsPoolIsAUnitOfItsOwn) {
  VlmConfig config = small_qwen_vl();
  config.vision.num_hidden_layers = 1;
  Rig rig(config, "vis_encoder.attn_pool.query");
  const std::vector<std::string> events = {
      "before forward vis_encoder.embeddings", "after forward vis_encoder.embeddings",
      "before forward vis_encoder.layers.0",   "after forward vis_encoder.layers.0",
      "before forward vis_encoder.attn_pool",  "after forward vis_encoder.attn_pool",
      "before backward vis_encoder.attn_pool", "after backward vis_encoder.attn_pool",
      "ready vis_encoder.attn_pool",           "ready vis_encoder.layers.0",
      "ready vis_encoder.embeddings"};
  for (const int64_t images : {1, 0}) {
    rig.hooks.events.clear();
    rig.run(rig.pixels(images), rig.weights(images));
    EXPECT_EQ(rig.hooks.events, events) << images;
  }
}

TEST(VisionEncoder, SizesThatDoNotFitAreRefused) {
  const auto build = [](const VlmConfig& config) {
    ParamTable table;
    VisionEncoder vision(table, config);
  };
  VlmConfig uneven = small_config();
  uneven.image_size = 10;
  EXPECT_THROW(build(uneven), Error);
  uneven.vision.family = VisionFamily::kSiglip;
  EXPECT_NO_THROW(build(uneven));
  uneven.image_size = 2;
  EXPECT_THROW(build(uneven), Error);
  VlmConfig deep = small_config();
  deep.vision_feature_layer = -5;
  EXPECT_THROW(build(deep), Error);
  deep.vision_feature_layer = 0;
  EXPECT_THROW(build(deep), Error);
  VlmConfig pooled = small_qwen_vl();
  EXPECT_NO_THROW(build(pooled));
  pooled.vision_feature_layer = -2;
  EXPECT_THROW(build(pooled), Error);
  VlmConfig heads = small_config();
  heads.vision.num_attention_heads = 4;
  EXPECT_THROW(build(heads), Error);
}

}  // namespace
}  // namespace facet
