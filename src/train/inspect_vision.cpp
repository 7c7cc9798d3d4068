#include "train/inspect_vision.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "base/log.h"
#include "checkpoint/hugging_face.h"
#include "data/image_preprocess.h"
#include "io/json.h"
#include "model/vision_encoder.h"
#include "train/inspect_weights.h"

namespace facet {

namespace {

const char* feature_text(const VisionTraits& traits) {
  if (traits.pool) return "the last block's output through attn_pool and ln_post, without proj";
  return traits.post_norm ? "the last block's output through post_layernorm"
                          : "the last block's output without post_layernorm";
}

}  // namespace

void print_encoder(const std::string& directory, const VisionConfig& config,
                   std::vector<std::string>& missing) {
  const VisionTraits& traits = config.traits();
  say("family", fmt::format("{} ({})", traits.name, traits.architecture));
  say("size", fmt::format("{} layers, width {}, {} inside", config.num_hidden_layers,
                          config.hidden_size, config.intermediate_size));
  say("heads", fmt::format("{} of width {}", config.num_attention_heads,
                           config.hidden_size / config.num_attention_heads));
  const int64_t patches = config.grid() * config.grid();
  if (traits.pool)
    say("tokens",
        fmt::format("{} of width {} from the pool, whatever the image size; positions of {} "
                    "patches of {} pixels",
                    config.pool_queries, config.pool_width, patches, config.patch_size));
  else
    say("tokens",
        fmt::format("{} patches of {} pixels{}, of images of {}", patches, config.patch_size,
                    traits.class_token ? " and a class token" : "", config.image_size));
  std::error_code ignored;
  if (std::filesystem::exists(directory + "/preprocessor_config.json", ignored) ||
      pixels_of_qwen_vl(directory))
    say("pixels", ImagePreprocessor(read_image_preprocess_config(directory)).text());
  else
    missing.emplace_back("preprocessor_config.json");
}

bool is_vision_directory(const std::string& path) {
  std::error_code ignored;
  const std::string file = path + "/config.json";
  if (!std::filesystem::is_regular_file(file, ignored)) return false;
  const JsonDocument config = JsonDocument::read_config(file);
  const std::string type = config.root().get_string("model_type", "");
  return std::ranges::any_of(all_vision_traits(), [&](const VisionTraits& traits) {
    return type == traits.whole_type || type == traits.own_type;
  });
}

int inspect_vision(const std::string& directory) {
  const VisionConfig config = read_vision_config(directory);
  log("vision encoder {}", directory);
  std::vector<std::string> missing;
  print_encoder(directory, config, missing);
  say("feature", feature_text(config.traits()));
  VlmConfig whole;
  whole.vision = config;
  whole.image_size = config.image_size;
  ParamTable table;
  const VisionEncoder encoder(table, whole);
  check_weights(directory, {{LlavaPart::kVision, table}}, missing);
  return end_of_inspection(missing);
}

}  // namespace facet
