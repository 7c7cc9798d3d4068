#include "train/inspect_llava.h"

#include <fmt/format.h>

#include <vector>

#include "base/log.h"
#include "checkpoint/hugging_face.h"
#include "io/llava_directory.h"
#include "model/llama.h"
#include "model/projection.h"
#include "model/vision_encoder.h"
#include "train/inspect_model.h"
#include "train/inspect_vision.h"
#include "train/inspect_weights.h"

namespace facet {

namespace {

VlmConfig config_of(const std::string& directory, const LlavaChoices& choices) {
  VlmConfig config;
  config.lm = read_llama_config(directory);
  config.vision = read_vision_config(directory);
  check_llava_features(directory, config.vision);
  config.image_size = config.vision.image_size;
  config.projection = ProjectionKind::kMlp;
  config.vision_feature_layer = choices.vision_feature_layer;
  config.drop_class_token = choices.drop_class_token;
  return config;
}

void print_projection(const VlmConfig& config, const LlavaChoices& choices) {
  say("projection",
      fmt::format("mlp2x_gelu from {} to {}, {} tokens an image", config.vision.hidden_size,
                  config.lm.hidden_size, config.image_tokens()));
  const char* with = config.drop_class_token              ? ", without the class token"
                     : config.vision.traits().class_token ? ", with the class token"
                                                          : "";
  say("feature",
      fmt::format("output of block {} (-1: the last){}", config.vision_feature_layer, with));
  if (!choices.chat_template.empty()) say("trained as", "--chat_template " + choices.chat_template);
}

}  // namespace

int inspect_llava(const std::string& directory) {
  const LlavaChoices choices = read_llava_choices(directory);
  const VlmConfig config = config_of(directory, choices);
  std::vector<std::string> missing;
  log("whole LLaVA model {}", directory);
  print_decoder(directory, config.lm, missing);
  log("with the vision encoder");
  print_encoder(directory, config.vision, missing);
  log("and");
  print_projection(config, choices);
  ParamTable decoder, encoder, projection;
  const LlamaDecoder declared_decoder(decoder, config);
  const VisionEncoder declared_encoder(encoder, config);
  Projection::make(projection, config);
  check_weights(directory,
                {{LlavaPart::kDecoder, decoder},
                 {LlavaPart::kVision, encoder},
                 {LlavaPart::kProjection, projection}},
                missing);
  return end_of_inspection(missing);
}

}  // namespace facet
