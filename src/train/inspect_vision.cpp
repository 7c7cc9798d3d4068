#include "train/inspect_vision.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "checkpoint/hugging_face.h"
#include "checkpoint/missing_tensors.h"
#include "data/image_preprocess.h"
#include "io/json.h"
#include "io/tensor_directory.h"
#include "model/vision_encoder.h"

namespace facet {

namespace {

void say(const char* what, const std::string& value) { log("{:<12}{}", what, value); }

void print_configuration(const VisionConfig& config) {
  const VisionTraits& traits = config.traits();
  say("family", fmt::format("{} ({})", traits.name, traits.architecture));
  say("size", fmt::format("{} layers, width {}, {} inside", config.num_hidden_layers,
                          config.hidden_size, config.intermediate_size));
  say("heads", fmt::format("{} of width {}", config.num_attention_heads,
                           config.hidden_size / config.num_attention_heads));
  const int64_t patches = config.grid() * config.grid();
  say("tokens",
      fmt::format("{} patches of {} pixels{}, of images of {}", patches, config.patch_size,
                  traits.class_token ? " and a class token" : "", config.image_size));
  say("feature", traits.post_norm ? "the last block's output through post_layernorm"
                                  : "the last block's output without post_layernorm");
}

// Tensors of the encoder that are not in the files, or have another shape.
void check_weights(const std::string& directory, const VisionConfig& config,
                   std::vector<std::string>& missing) {
  if (!TensorDirectory::is_there(directory))
    return missing.push_back("weights: none are there" + what_lies_there_instead(directory));
  const TensorDirectory tensors(directory);
  VlmConfig whole;
  whole.vision = config;
  whole.image_size = config.image_size;
  ParamTable table;
  const VisionEncoder encoder(table, whole);
  const size_t before = missing.size();
  for (const Param& param : table.params()) {
    const std::string name = param.name.substr(std::string("vis_encoder.").size());
    StoredTensor expected;
    expected.shape = param.shape;
    const StoredTensor* stored = tensors.find(name);
    if (stored == nullptr)
      missing.push_back("tensor " + name);
    else if (stored->shape != param.shape)
      missing.push_back(fmt::format("{} is {}, config.json asks for {}", name,
                                    stored->shape_string(), expected.shape_string()));
  }
  if (missing.size() == before) say("weights", fmt::format("complete in {}", tensors.source()));
}

}  // namespace

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
  constexpr size_t kShown = 10;
  const VisionConfig config = read_vision_config(directory);
  log("vision encoder {}", directory);
  print_configuration(config);
  std::vector<std::string> missing;
  std::error_code ignored;
  if (std::filesystem::exists(directory + "/preprocessor_config.json", ignored))
    say("pixels", ImagePreprocessor(read_image_preprocess_config(directory)).text());
  else
    missing.push_back("preprocessor_config.json");
  check_weights(directory, config, missing);
  for (size_t i = 0; i < std::min(kShown, missing.size()); ++i) say("missing", missing[i]);
  if (missing.size() > kShown) say("", fmt::format("and {} more", missing.size() - kShown));
  return missing.empty() ? 0 : static_cast<int>(ExitCode::kMissingInput);
}

}  // namespace facet
