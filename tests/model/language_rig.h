// What the tests of the composed model share: a small model, batches, and a rig that owns the
// parameters, the arena and the hooks.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/cpu/backend.h"
#include "model/vlm.h"
#include "tests/model/language_reference.h"
#include "tests/model/vision_rig.h"

namespace facet::language_rig {

constexpr int32_t kImage = 49;  // the id of <image>

inline VlmConfig small_config() {
  VlmConfig config;
  config.vision.hidden_size = 12;
  config.vision.intermediate_size = 20;
  config.vision.num_hidden_layers = 2;
  config.vision.num_attention_heads = 2;
  config.vision.image_size = 6;
  config.vision.patch_size = 3;
  config.image_size = 6;  // S = 5
  config.lm.hidden_size = 32;
  config.lm.intermediate_size = 44;
  config.lm.num_hidden_layers = 2;
  config.lm.num_attention_heads = 4;
  config.lm.num_key_value_heads = 2;
  config.lm.head_dim = 8;
  config.lm.vocab_size = 50;
  config.lm.max_position_embeddings = 64;
  return config;
}

inline LoraConfig lora(const std::string& module_name) {
  LoraConfig config;
  config.rank = 3;
  config.alpha = 2;
  config.module_name = module_name;
  return config;
}

// One sample from its tokens; every token after `prompt` of them carries a label, images excepted.
// Pixels are drawn by `name` and the image's place.
inline void add_sample(MicroBatch& batch, const VlmConfig& config, const std::vector<int32_t>& ids,
                       size_t prompt, const std::string& name) {
  int32_t images = 0;
  for (size_t t = 0; t < ids.size(); ++t) {
    batch.token_ids.push_back(ids[t]);
    const bool labelled = t >= prompt && ids[t] != kImage;
    batch.labels.push_back(labelled ? ids[t] : kIgnoredLabel);
    if (ids[t] != kImage) continue;
    const int64_t n = 3 * config.image_size * config.image_size;
    const auto pixels = vision_rig::random_mat(1, n, name + std::to_string(images));
    batch.pixels.insert(batch.pixels.end(), pixels.a.begin(), pixels.a.end());
    ++images;
  }
  batch.sample_begin.push_back(static_cast<int32_t>(batch.token_ids.size()));
  batch.images_per_sample.push_back(images);
  batch.image_token_id = kImage;
  batch.image_size = static_cast<int32_t>(config.image_size);
}

// Text before, between and after two images; an image first; no image; a label after an image.
inline MicroBatch mixed_batch(const VlmConfig& config) {
  MicroBatch batch;
  add_sample(batch, config, {1, 7, kImage, 3, 12, kImage, 5, 9, 9, 2}, 6, "two");
  add_sample(batch, config, {kImage, 8, 31, 17, 2}, 1, "first");
  add_sample(batch, config, {1, 22, 40, 41, 2, 6, 2}, 3, "none");
  return batch;
}

struct Rig {
  enum class Others : uint8_t { kAsChosen, kFrozen };
  // `trained`: "" for everything, "default" for what the model itself chooses; others: of what has
  // not that prefix.
  explicit Rig(const VlmConfig& c, const std::string& trained = "", int threads = 1,
               Others others = Others::kAsChosen)
      : config(c), model(config, table), ops(threads), hooks(table) {
    if (others == Others::kFrozen) table.set_trained("", false);
    if (trained != "default") table.set_trained(trained, true);
    params = vision_rig::fill(table);
  }
  LossSums train(const MicroBatch& batch, float gradient_scale = 1) {
    LossSums sums;
    model.forward_backward(ctx, batch, gradient_scale, sums);
    return sums;
  }
  std::vector<float> logits(const MicroBatch& batch) {
    std::vector<float> result;
    model.all_logits(ctx, batch, result);
    return result;
  }
  std::vector<float> gradients() const {
    std::vector<float> result;
    for (const Param& param : table.params()) {
      if (!param.trained) continue;
      const std::vector<float> grad = vision_rig::floats_of(param.grad);
      result.insert(result.end(), grad.begin(), grad.end());
    }
    return result;
  }

  VlmConfig config;
  ParamTable table;
  VisionLanguageModel model;
  CpuBackend ops;
  Arena arena{"activations", int64_t{64} << 20};
  vision_rig::RecordingHooks hooks;
  Context ctx{ops, arena, hooks};
  vision_reference::Params params;
};

}  // namespace facet::language_rig
