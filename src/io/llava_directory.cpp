#include "io/llava_directory.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string_view>

#include "base/check.h"

namespace facet {

namespace {

struct Prefix {
  LlavaPart part;
  std::string_view in_file, alone;
};
// The first row of a part whose `alone` a name begins with is how it is written.
constexpr Prefix kPrefixes[] = {
    {LlavaPart::kDecoder, "language_model.model.", "model."},
    {LlavaPart::kDecoder, "language_model.lm_head.", "lm_head."},
    {LlavaPart::kVision, "vision_tower.", ""},
    {LlavaPart::kProjection, "multi_modal_projector.linear_1.", "projection.0."},
    {LlavaPart::kProjection, "multi_modal_projector.linear_2.", "projection.2."},
    // Since Transformers 4.52.
    {LlavaPart::kDecoder, "model.language_model.", "model."},
    {LlavaPart::kDecoder, "lm_head.", "lm_head."},
    {LlavaPart::kVision, "model.vision_tower.", ""},
    {LlavaPart::kProjection, "model.multi_modal_projector.linear_1.", "projection.0."},
    {LlavaPart::kProjection, "model.multi_modal_projector.linear_2.", "projection.2."}};

constexpr std::string_view kProjector = "mm_projector.";

// Only of LLaVA's own format.
constexpr const char* kOwnFormat[] = {"mm_projector_type", "mm_vision_tower", "mm_hidden_size"};

std::string with_prefix(std::string_view prefix, std::string_view name, size_t cut) {
  return std::string(prefix).append(name.substr(cut));
}

// "0.weight" of "model.mm_projector.0.weight"; nothing for other names.
std::optional<std::string_view> name_in_projector(std::string_view name) {
  if (name.starts_with("model.")) name.remove_prefix(std::string_view("model.").size());
  if (!name.starts_with(kProjector)) return {};
  return name.substr(kProjector.size());
}

void refuse_own_format(const JsonValue& config) {
  for (const char* key : kOwnFormat)
    if (const auto value = config.find(key))
      value->reject(
          "this is a model in LLaVA's own format; give the one that is converted for Transformers "
          "(llava-hf/...)");
}

// Of an encoder alone or of a whole model with one; 12 is Transformers' default for both families.
int64_t vision_layers(const JsonValue& config) {
  const auto nested = config.find("vision_config");
  return (nested ? *nested : config).get_int("num_hidden_layers", 12);
}

int64_t feature_layer(const JsonValue& config) {
  const auto layer = config.find("vision_feature_layer");
  if (!layer) return -2;
  if (layer->is_array())
    layer->reject("features of several layers joined are not supported; those of one are");
  const int64_t number = layer->as_int();
  const int64_t layers = std::max<int64_t>(0, vision_layers(config.at("vision_config")));
  if (number == 0 || number > layers || number < -layers)
    layer->reject(fmt::format(
        "{} does not exist: the vision encoder has {} layers, -1 is the output of the last and 1 "
        "that of the first",
        number, layers));
  return number < 0 ? number : number - layers - 1;
}

}  // namespace

bool is_llava(const JsonValue& config) { return config.get_string("model_type", "") == "llava"; }

bool is_llava_directory(const std::string& directory) {
  const std::string file = directory + "/config.json";
  std::error_code ignored;
  return std::filesystem::is_regular_file(file, ignored) &&
         is_llava(JsonDocument::read_config(file).root());
}

LlavaChoices read_llava_choices(const JsonValue& config) {
  refuse_own_format(config);
  LlavaChoices choices;
  const std::string activation = config.get_string("projector_hidden_act", "gelu");
  if (activation != "gelu")
    config.at("projector_hidden_act")
        .reject(fmt::format("{} is not supported; gelu is", activation));
  if (!config.get_bool("multimodal_projector_bias", true))
    config.at("multimodal_projector_bias").reject("a projection without bias is not supported");
  const std::string strategy = config.get_string("vision_feature_select_strategy", "default");
  if (strategy != "default" && strategy != "full")
    config.at("vision_feature_select_strategy")
        .reject(fmt::format("{} is not supported; default and full are", strategy));
  choices.drop_class_token = strategy == "default";
  choices.vision_feature_layer = feature_layer(config);
  choices.text_type = config.at("text_config").at("model_type").as_string();
  choices.chat_template = config.get_string(kLlavaChatTemplate, "");
  return choices;
}

LlavaChoices read_llava_choices(const std::string& directory) {
  return read_llava_choices(JsonDocument::read_config(directory + "/config.json").root());
}

TensorDirectory open_llava_part(const std::string& directory, LlavaPart part) {
  return TensorDirectory(directory).renamed([part](const std::string& name) -> std::string {
    for (const Prefix& prefix : kPrefixes)
      if (name.starts_with(prefix.in_file))
        return prefix.part == part ? with_prefix(prefix.alone, name, prefix.in_file.size()) : "";
    return part == LlavaPart::kDecoder ? name : "";
  });
}

std::string name_in_llava(LlavaPart part, const std::string& name) {
  const auto* prefix = std::find_if(
      std::begin(kPrefixes), std::end(kPrefixes),
      [&](const Prefix& row) { return row.part == part && name.starts_with(row.alone); });
  ASSERT(prefix != std::end(kPrefixes), "{} has no name in LLaVA's files", name);
  return with_prefix(prefix->in_file, name, prefix->alone.size());
}

bool is_llava_projector(const TensorDirectory& file) {
  const std::vector<std::string> names = file.names();
  return !names.empty() && std::all_of(names.begin(), names.end(), [](const std::string& name) {
    return name_in_projector(name).has_value();
  });
}

TensorDirectory with_projection_names(TensorDirectory projector) {
  constexpr std::string_view kKnown[] = {"0.weight", "0.bias", "2.weight", "2.bias"};
  const std::string path = projector.source();
  return std::move(projector).renamed([&](const std::string& name) {
    const std::string_view rest = name_in_projector(name).value_or("");
    CHECK(std::find(std::begin(kKnown), std::end(kKnown), rest) != std::end(kKnown),
          ExitCode::kConfig,
          "{}: {} is of another projection than mlp2x_gelu, which is not supported", path, name);
    return with_prefix("projection.", rest, 0);
  });
}

}  // namespace facet
