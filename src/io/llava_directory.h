// Directories of whole models as Transformers' LlavaForConditionalGeneration (LLaVA 1.5) saves
// them: decoder (text_config), vision encoder (vision_config) and projection in one. And
// mm_projector.bin, LLaVA's own file with a projection alone.
#pragma once

#include <cstdint>
#include <string>

#include "io/json.h"
#include "io/tensor_directory.h"

namespace facet {

// Of config.json; false for any other kind of model.
bool is_llava(const JsonValue& config);
// The same of a directory; false where there is no config.json.
bool is_llava_directory(const std::string& directory);

// What its config.json says of how the three parts work together.
struct LlavaChoices {
  int64_t vision_feature_layer = 0;  // -1: the last block's output, ...
  bool drop_class_token = false;     // vision_feature_select_strategy "default"; else "full"
  std::string text_type;             // model_type of the decoder
  std::string chat_template;         // that an export was trained with; "": the file does not say
};

// Kinds of models that are not read (another projection, features of several layers, LLaVA's own
// format of before its conversion) are refused by name, kConfig.
LlavaChoices read_llava_choices(const JsonValue& config);
LlavaChoices read_llava_choices(const std::string& directory);

// The key of config.json in which an export records the form of its conversations.
constexpr const char* kLlavaChatTemplate = "facet_chat_template";

enum class LlavaPart : uint8_t { kDecoder, kVision, kProjection };

// One part under the names that it has by itself: model.layers..., vision_model...,
// projection.{0,2}.{weight,bias}. Both the names of Transformers before 4.52 and those since then
// are understood. What belongs to no part is among the decoder's.
TensorDirectory open_llava_part(const std::string& directory, LlavaPart part);
// The name in a directory, as Transformers of any version reads it.
std::string name_in_llava(LlavaPart part, const std::string& name);

// Whether the file holds a projection of LLaVA's and nothing else (mm_projector.bin).
bool is_llava_projector(const TensorDirectory& file);
// Its tensors as projection.{0,2}.{weight,bias}. Other projections than mlp2x_gelu: kConfig.
TensorDirectory with_projection_names(TensorDirectory projector);

}  // namespace facet
