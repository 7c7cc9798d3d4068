#include "checkpoint/config_export.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "base/check.h"
#include "checkpoint/decoder_family.h"
#include "checkpoint/tokenizer_export.h"
#include "data/image_preprocess.h"
#include "data/tokenizer.h"
#include "io/file.h"
#include "io/json.h"
#include "io/llava_directory.h"

namespace facet {

namespace {

// The keys in which an exported config.json differs from its source.
struct Changes {
  std::string architecture;
  std::string model_type;
  int64_t vocab_size = 0;           // 0: has none
  std::string type;                 // of most elements, as PyTorch names it
  const char* false_key = nullptr;  // a key that becomes false
};

JsonDocument config_in(const std::string& directory) {
  return JsonDocument::read_config(directory + "/config.json");
}

// The members of a source's object but those that are written in their place.
void copy_others(JsonWriter& writer, const JsonValue& source,
                 const std::set<std::string_view>& written) {
  for (int64_t i = 0; i < source.size(); ++i) {
    const auto [key, value] = source.member_as_written(i);
    if (!written.contains(key)) writer.key(key).value(value);
  }
}

void write_architectures(JsonWriter& writer, const std::string& architecture) {
  writer.key("architectures").begin_array();
  writer.value(architecture);
  writer.end_array();
}

void write_changed(JsonWriter& writer, const JsonValue& source, const Changes& changes) {
  std::set<std::string_view> written = {"architectures", "model_type", "torch_dtype", "dtype"};
  write_architectures(writer, changes.architecture);
  writer.key("model_type").value(changes.model_type);
  if (changes.vocab_size > 0) {
    writer.key("vocab_size").value(changes.vocab_size);
    written.insert("vocab_size");
  }
  writer.key("torch_dtype").value(changes.type);
  if (changes.false_key != nullptr) {
    writer.key(changes.false_key).value(false);
    written.insert(changes.false_key);
  }
  copy_others(writer, source, written);
}

// A whole model's file leaves out sizes that the file of a decoder must have.
void write_decoder(JsonWriter& writer, const JsonValue& root, const LlamaConfig& config,
                   const std::string& type) {
  const JsonValue source = decoder_settings(root);
  const JsonValue model_type = source.at("model_type");
  const DecoderFamily* family = find_decoder_family(model_type.as_string());
  ASSERT(family != nullptr, "{} was read as a decoder", model_type.as_string());
  writer.begin_object();
  write_changed(writer, source,
                {family->architecture, family->model_type, config.vocab_size, type});
  for (const auto& [key, size] : {std::pair{"hidden_size", config.hidden_size},
                                  {"intermediate_size", config.intermediate_size},
                                  {"num_hidden_layers", config.num_hidden_layers},
                                  {"num_attention_heads", config.num_attention_heads}})
    if (!source.find(key)) writer.key(key).value(size);
  writer.end_object();
}

void write_vision(JsonWriter& writer, const JsonValue& root, const VisionTraits& traits,
                  const std::string& type) {
  std::optional<JsonValue> nested = root.find("vision_config");
  if (!nested) nested = root.find(traits.settings_key);
  writer.begin_object();
  write_changed(writer, nested ? *nested : root,
                {traits.architecture, traits.own_type, 0, type, traits.head_key});
  writer.end_object();
}

void write_object(const std::string& path, JsonWriter& writer) { write_file(path, writer.take()); }

const AddedToken* image_token(const ExportSources& sources) {
  const auto found = std::find_if(sources.added_tokens.begin(), sources.added_tokens.end(),
                                  [](const AddedToken& token) { return token.text == kImageText; });
  return found == sources.added_tokens.end() ? nullptr : &*found;
}

const char* strategy_of(const VlmConfig& config) {
  return config.drop_class_token ? "default" : "full";
}

// Where the source is such a model too, its other members stay.
void write_llava_config(const std::string& path, const VlmConfig& config,
                        const ExportSources& sources, const std::string& type) {
  const JsonDocument lm = config_in(sources.pretrained.lm_directory);
  const JsonDocument vision = config_in(sources.pretrained.vision_directory);
  JsonWriter writer;
  writer.begin_object();
  write_architectures(writer, "LlavaForConditionalGeneration");
  writer.key("model_type").value("llava");
  writer.key("torch_dtype").value(type);
  writer.key("image_token_index").value(int64_t{image_token(sources)->id});
  writer.key("image_seq_length").value(config.image_tokens());
  writer.key("projector_hidden_act").value("gelu");
  writer.key("multimodal_projector_bias").value(true);
  writer.key("vision_feature_layer").value(config.vision_feature_layer);
  writer.key("vision_feature_select_strategy").value(strategy_of(config));
  writer.key("tie_word_embeddings").value(false);
  writer.key(kLlavaChatTemplate).value(sources.chat_template);
  writer.key("text_config");
  write_decoder(writer, lm.root(), config.lm, type);
  writer.key("vision_config");
  write_vision(writer, vision.root(), config.vision.traits(), type);
  if (is_llava(lm.root()))
    copy_others(
        writer, lm.root(),
        {"architectures", "model_type", "torch_dtype", "dtype", "image_token_index",
         "image_token_id", "image_seq_length", "projector_hidden_act", "multimodal_projector_bias",
         "vision_feature_layer", "vision_feature_select_strategy", "tie_word_embeddings",
         kLlavaChatTemplate, "text_config", "vision_config", "vocab_size"});
  writer.end_object();
  write_object(path, writer);
}

// What LlavaProcessor needs to count an image's tokens.
void write_llava_processor(const std::string& path, const VlmConfig& config) {
  JsonWriter writer;
  writer.begin_object();
  writer.key("processor_class").value("LlavaProcessor");
  writer.key("image_token").value(kImageText);
  writer.key("patch_size").value(config.vision.patch_size);
  writer.key("num_additional_image_tokens").value(int64_t{1});  // the class token
  writer.key("vision_feature_select_strategy").value(strategy_of(config));
  writer.end_object();
  write_object(path, writer);
}

// As an image processor of Transformers that makes the same pixels.
void write_square_pixels(const std::string& path, const ImagePreprocessConfig& pixels) {
  JsonWriter writer;
  const auto channels = [&](const char* key, const std::array<double, 3>& values) {
    writer.key(key).begin_array();
    for (const double value : values) writer.value(value);
    writer.end_array();
  };
  writer.begin_object();
  writer.key("image_processor_type").value("SiglipImageProcessor");
  writer.key("size").begin_object();
  writer.key("height").value(pixels.size);
  writer.key("width").value(pixels.size);
  writer.end_object();
  writer.key("resample").value(int64_t{3});  // bicubic
  writer.key("do_convert_rgb").value(true);
  channels("image_mean", pixels.image_mean);
  channels("image_std", pixels.image_std);
  writer.end_object();
  write_object(path, writer);
}

}  // namespace

std::string main_type(const std::vector<TensorToWrite>& tensors) {
  std::map<DType, int64_t> elements;
  for (const TensorToWrite& tensor : tensors)
    elements[tensor.type] += tensor.bytes() / size_of(tensor.type);
  const auto most = std::max_element(elements.begin(), elements.end(),
                                     [](auto& a, auto& b) { return a.second < b.second; });
  if (most == elements.end() || most->first == DType::kF32) return "float32";
  return most->first == DType::kBF16 ? "bfloat16" : "float16";
}

void write_decoder_config(const std::string& source_directory, const std::string& path,
                          const LlamaConfig& config, const std::string& type) {
  const JsonDocument source = config_in(source_directory);
  JsonWriter writer;
  write_decoder(writer, source.root(), config, type);
  write_object(path, writer);
}

void write_vision_config(const std::string& source_directory, const std::string& path,
                         const VisionTraits& traits, const std::string& type) {
  const JsonDocument source = config_in(source_directory);
  JsonWriter writer;
  write_vision(writer, source.root(), traits, type);
  write_object(path, writer);
}

void write_preprocessor_config(const std::string& source_directory, const std::string& path,
                               bool pads) {
  const std::string source = source_directory + "/preprocessor_config.json";
  if (const auto pixels = pixels_of_qwen_vl(source_directory)) {
    write_square_pixels(path, *pixels);
    return;
  }
  if (!pads) {
    copy_if_there(source, path);
    return;
  }
  const JsonDocument document = JsonDocument::read_config(source);
  const std::optional<JsonValue> nested = document.root().find("image_processor");
  JsonWriter writer;
  writer.begin_object();
  writer.key("image_processor_type").value("LlavaImageProcessor");
  writer.key("do_pad").value(true);
  copy_others(writer, nested && !nested->is_null() ? *nested : document.root(),
              {"image_processor_type", "feature_extractor_type", "do_pad"});
  writer.end_object();
  write_object(path, writer);
}

bool exports_llava(const VlmConfig& config, const ExportSources& sources) {
  return config.projection == ProjectionKind::kMlp && config.vision.family == VisionFamily::kClip &&
         !config.mmca && !config.compat_visualchat &&
         config.image_size == config.vision.image_size && !config.lm.tie_word_embeddings &&
         image_token(sources) != nullptr;
}

void write_llava_configs(const std::string& directory, const VlmConfig& config,
                         const ExportSources& sources, const std::string& type) {
  write_llava_config(directory + "/config.json", config, sources, type);
  write_llava_processor(directory + "/processor_config.json", config);
}

}  // namespace facet
