#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <numeric>
#include <optional>

#include "checkpoint/decoder_family.h"
#include "checkpoint/hugging_face.h"
#include "checkpoint/model_choices.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace facet {

namespace {

constexpr std::string_view kDecoderPrefix = "lang_decoder.";
constexpr std::string_view kVisionPrefix = "vis_encoder.";
constexpr std::string_view kTokenTable = "lang_decoder.model.embed_tokens.weight";
constexpr std::string_view kLangEmbed = "lang_embed.weight";
constexpr int64_t kMaxSmallFile = int64_t{256} << 20;

// The parameters by name, and access to their values.
struct ParamMap {
  std::map<std::string_view, const Param*> by_name;
  const OpenUnit& open_unit;

  const Param* find(std::string_view name) const {
    const auto found = by_name.find(name);
    return found == by_name.end() ? nullptr : found->second;
  }
};

ParamMap map_of(const ParamTable& table, const OpenUnit& open_unit) {
  ParamMap params{{}, open_unit};
  for (const Param& param : table.params()) params.by_name.emplace(param.name, &param);
  return params;
}

TensorToWrite plain_copy(const ParamMap& params, std::string name, const Param& param) {
  return {std::move(name), param.shape,
          [&params, &param](int64_t begin, int64_t count, float* out) {
            params.open_unit(param.unit);
            std::memcpy(out, param.value.f32() + begin, static_cast<size_t>(count) * sizeof(float));
          }};
}

// out = elements [begin, begin+count) of W + scale (R L)'; W (outputs,inputs), R (inputs,rank),
// L (rank,outputs).
void fuse_piece(const Param& weight, const Param& right, const Param& left, float scale,
                int64_t begin, int64_t count, float* out) {
  const int64_t inputs = weight.shape[1];
  const int64_t outputs = weight.shape[0];
  const int64_t rank = right.shape[1];
  const float* w = weight.value.f32();
  const float* r = right.value.f32();
  const float* l = left.value.f32();
  const int64_t first_row = begin / inputs;
  const int64_t last_row = (begin + count - 1) / inputs;
  // scale * L' of these rows, (rows, rank).
  std::vector<float> scaled(static_cast<size_t>((last_row - first_row + 1) * rank));
  for (int64_t row = first_row; row <= last_row; ++row)
    for (int64_t k = 0; k < rank; ++k)
      scaled[static_cast<size_t>((row - first_row) * rank + k)] = scale * l[k * outputs + row];
#pragma omp parallel for schedule(static)
  for (int64_t row = first_row; row <= last_row; ++row) {
    const float* a = scaled.data() + (row - first_row) * rank;
    const int64_t from = std::max(begin, row * inputs);
    const int64_t to = std::min(begin + count, (row + 1) * inputs);
    for (int64_t i = from; i < to; ++i) {
      const float* b = r + (i - row * inputs) * rank;
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t k = 0; k < rank; ++k) sum += a[k] * b[k];
      out[i - begin] = w[i] + sum;
    }
  }
}

// LoRA weights are in their linear layer's unit.
TensorToWrite fused_copy(const ParamMap& params, std::string name, const Param& weight,
                         const Param& right, const Param& left, const LoraConfig& lora) {
  const float scale = lora.alpha / static_cast<float>(lora.rank);
  return {std::move(name), weight.shape,
          [&params, &weight, &right, &left, scale](int64_t begin, int64_t count, float* out) {
            params.open_unit(weight.unit);
            fuse_piece(weight, right, left, scale, begin, count, out);
          }};
}

// All parameters with a prefix, named without it, LoRA merged.
std::vector<TensorToWrite> fused_part(const ParamMap& params, std::string_view prefix,
                                      const LoraConfig& lora) {
  std::vector<TensorToWrite> tensors;
  for (const auto& [full_name, param] : params.by_name) {
    if (!full_name.starts_with(prefix) || param->role == ParamRole::kLora) continue;
    std::string name(full_name.substr(prefix.size()));
    const Param* right = nullptr;
    const Param* left = nullptr;
    if (full_name.ends_with(".weight")) {
      const std::string module(full_name.substr(0, full_name.size() - 6));
      right = params.find(module + "lora_right_weight");
      left = params.find(module + "lora_left_weight");
    }
    tensors.push_back(right != nullptr && left != nullptr
                          ? fused_copy(params, std::move(name), *param, *right, *left, lora)
                          : plain_copy(params, std::move(name), *param));
  }
  return tensors;
}

std::vector<TensorToWrite> decoder_tensors(const ParamMap& params, const VlmConfig& config) {
  std::vector<TensorToWrite> tensors = fused_part(params, kDecoderPrefix, config.lang_lora);
  if (config.lm.tie_word_embeddings) return tensors;
  const std::string name(kTokenTable.substr(kDecoderPrefix.size()));
  std::erase_if(tensors, [&](const TensorToWrite& tensor) { return tensor.name == name; });
  tensors.push_back(plain_copy(params, name, *params.find(kLangEmbed)));
  return tensors;
}

std::vector<TensorToWrite> projection_tensors(const ParamMap& params) {
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, param] : params.by_name)
    if (name.starts_with("projection.") || name == kLangEmbed)
      tensors.push_back(plain_copy(params, std::string(name), *param));
  return tensors;
}

// The keys in which an exported config.json differs from its source.
struct Changes {
  std::string architecture;
  std::string model_type;
  int64_t vocab_size = 0;           // 0: has none
  const char* false_key = nullptr;  // a key that becomes false
};

void write_config(const JsonValue& source, const std::string& path, const Changes& changes) {
  JsonWriter writer;
  writer.begin_object();
  writer.key("architectures").begin_array();
  writer.value(changes.architecture);
  writer.end_array();
  writer.key("model_type").value(changes.model_type);
  if (changes.vocab_size > 0) writer.key("vocab_size").value(changes.vocab_size);
  writer.key("torch_dtype").value("float32");
  if (changes.false_key != nullptr) writer.key(changes.false_key).value(false);
  for (int64_t i = 0; i < source.size(); ++i) {
    const auto [key, value] = source.member_as_written(i);
    const bool replaced = key == "architectures" || key == "model_type" || key == "torch_dtype" ||
                          key == "dtype" || (key == "vocab_size" && changes.vocab_size > 0) ||
                          (changes.false_key != nullptr && key == changes.false_key);
    if (!replaced) writer.key(key).value(value);
  }
  writer.end_object();
  write_file(path, writer.take());
}

void write_decoder_config(const std::string& source_directory, const std::string& path,
                          int64_t vocab_size) {
  const JsonDocument source = JsonDocument::read_config(source_directory + "/config.json");
  const JsonValue type = source.root().at("model_type");
  const DecoderFamily* family = find_decoder_family(type.as_string());
  ASSERT(family != nullptr, "{} was read as a decoder", type.as_string());
  write_config(source.root(), path, {family->architecture, family->model_type, vocab_size});
}

void write_vision_config(const std::string& source_directory, const std::string& path,
                         const VisionTraits& traits) {
  const JsonDocument source = JsonDocument::read_config(source_directory + "/config.json");
  const std::optional<JsonValue> nested = source.root().find("vision_config");
  write_config(nested ? *nested : source.root(), path,
               {traits.architecture, traits.own_type, 0, traits.head_key});
}

bool copy_if_there(const std::string& from, const std::string& to) {
  std::error_code ignored;
  if (!std::filesystem::exists(from, ignored)) return false;
  write_file(to, read_file(from, kMaxSmallFile));
  return true;
}

void write_added_tokens(const std::string& path, const ExportSources& sources) {
  JsonWriter writer;
  writer.begin_object();
  for (const AddedToken& token : sources.added_tokens)
    if (token.id >= sources.tokenizer_pieces) writer.key(token.text).value(int64_t{token.id});
  writer.end_object();
  write_file(path, writer.take());
}

void write_members_of_token(JsonWriter& writer, const AddedToken& token) {
  writer.key("content").value(token.text);
  writer.key("lstrip").value(token.lstrip);
  writer.key("normalized").value(token.normalized);
  writer.key("rstrip").value(token.rstrip);
  writer.key("single_word").value(token.single_word);
  writer.key("special").value(token.special);
}

void write_added_tokens_decoder(JsonWriter& writer, const ExportSources& sources) {
  writer.key("added_tokens_decoder").begin_object();
  for (const AddedToken& token : sources.added_tokens) {
    writer.key(fmt::format("{}", token.id)).begin_object();
    write_members_of_token(writer, token);
    writer.end_object();
  }
  writer.end_object();
}

void write_token_roles(JsonWriter& writer, const ExportSources& sources) {
  constexpr std::string_view kList = "additional_special_tokens";
  std::vector<std::string> further;
  for (const auto& [role, text] : sources.token_roles)
    if (role == kList) {
      further.push_back(text);
    } else {
      writer.key(role).value(text);
    }
  if (further.empty()) return;
  writer.key(kList).begin_array();
  for (const std::string& text : further) writer.value(text);
  writer.end_array();
}

// With this Transformers' LlamaTokenizer gives the ids that the model was trained with.
void write_llama_tokenizer_config(const std::string& path, const ExportSources& sources) {
  JsonWriter writer;
  writer.begin_object();
  writer.key("tokenizer_class").value("LlamaTokenizer");
  writer.key("legacy").value(sources.space_marks == SpaceMarks::kEveryPiece);
  if (sources.space_marks == SpaceMarks::kNone) writer.key("add_prefix_space").value(false);
  writer.key("add_bos_token").value(true);
  writer.key("add_eos_token").value(false);
  writer.key("clean_up_tokenization_spaces").value(false);
  write_token_roles(writer, sources);
  write_added_tokens_decoder(writer, sources);
  writer.end_object();
  write_file(path, writer.take());
}

// The source's file with the added tokens of this run as its own.
void write_tokenizer_json(const std::string& path, const ExportSources& sources) {
  const JsonDocument source =
      JsonDocument::read(sources.tokenizer_file, ExitCode::kConfig, kMaxSmallFile);
  JsonWriter writer;
  writer.begin_object();
  for (int64_t i = 0; i < source.root().size(); ++i) {
    const auto [key, value] = source.root().member_as_written(i);
    if (key != "added_tokens") writer.key(key).value(value);
  }
  writer.key("added_tokens").begin_array();
  for (const AddedToken& token : sources.added_tokens) {
    writer.begin_object();
    writer.key("id").value(int64_t{token.id});
    write_members_of_token(writer, token);
    writer.end_object();
  }
  writer.end_array();
  writer.end_object();
  write_file(path, writer.take());
}

// Members of tokenizer_config.json that an export writes itself.
bool is_about_tokens(const ExportSources& sources, std::string_view key) {
  const auto names = [&](const auto& role) { return role.first == key; };
  return key == "added_tokens_decoder" || key == "extra_special_tokens" ||
         std::any_of(sources.token_roles.begin(), sources.token_roles.end(), names);
}

void write_tokenizer_config(const std::string& path, const ExportSources& sources) {
  const std::string source = sources.lm_directory + "/tokenizer_config.json";
  JsonWriter writer;
  writer.begin_object();
  if (std::error_code ignored; std::filesystem::exists(source, ignored)) {
    const JsonDocument document = JsonDocument::read_config(source);
    for (int64_t i = 0; i < document.root().size(); ++i) {
      const auto [key, value] = document.root().member_as_written(i);
      if (!is_about_tokens(sources, key)) writer.key(key).value(value);
    }
  } else {
    writer.key("tokenizer_class").value("PreTrainedTokenizerFast");
  }
  write_token_roles(writer, sources);
  write_added_tokens_decoder(writer, sources);
  writer.end_object();
  write_file(path, writer.take());
}

void write_tokenizer(const std::string& directory, const ExportSources& sources) {
  if (sources.tokenizer_file.empty()) return;
  CHECK(std::filesystem::exists(sources.tokenizer_file), ExitCode::kMissingInput,
        "{}: the tokenizer no longer exists; it was read from there at the start",
        sources.tokenizer_file);
  if (sources.tokenizer_file.ends_with(".json")) {
    write_tokenizer_json(directory + "/tokenizer.json", sources);
    write_tokenizer_config(directory + "/tokenizer_config.json", sources);
    return;
  }
  copy_if_there(sources.tokenizer_file, directory + "/tokenizer.model");
  write_added_tokens(directory + "/added_tokens.json", sources);
  write_llama_tokenizer_config(directory + "/tokenizer_config.json", sources);
}

void write_parts(const std::string& directory, const ParamMap& params, const VlmConfig& config,
                 const ExportSources& sources) {
  const std::string decoder = directory + "/lang_decoder";
  const std::string vision = directory + "/vis_encoder";
  make_directories(decoder);
  make_directories(vision);
  write_decoder_config(sources.lm_directory, decoder + "/config.json", config.lm.vocab_size);
  write_safetensors(decoder + "/model.safetensors", decoder_tensors(params, config));
  write_tokenizer(decoder, sources);
  copy_if_there(sources.lm_directory + "/generation_config.json",
                decoder + "/generation_config.json");
  write_vision_config(sources.vision_directory, vision + "/config.json", config.vision.traits());
  write_safetensors(vision + "/model.safetensors",
                    fused_part(params, kVisionPrefix, config.vis_lora));
  copy_if_there(sources.vision_directory + "/preprocessor_config.json",
                vision + "/preprocessor_config.json");
  write_safetensors(directory + "/projection.safetensors", projection_tensors(params),
                    model_choices(config));
}

// A file that is not there has none.
int64_t bytes_of_file(const std::string& path) {
  std::error_code error;
  const uintmax_t bytes = std::filesystem::file_size(path, error);
  return error ? 0 : static_cast<int64_t>(bytes);
}

}  // namespace

int64_t estimated_export_bytes(const ParamTable& table, const VlmConfig& config,
                               const ExportSources& sources) {
  constexpr int64_t kOtherFiles = 1 << 16, kHeaderOfTensor = 1 << 8;
  const OpenUnit no_values = nothing_to_open;
  const ParamMap params = map_of(table, no_values);
  int64_t bytes = kOtherFiles + bytes_of_file(sources.tokenizer_file) +
                  bytes_of_file(sources.lm_directory + "/config.json") +
                  bytes_of_file(sources.vision_directory + "/config.json");
  for (const std::vector<TensorToWrite>& part :
       {decoder_tensors(params, config), fused_part(params, kVisionPrefix, config.vis_lora),
        projection_tensors(params)})
    for (const TensorToWrite& tensor : part)
      bytes += kHeaderOfTensor + std::accumulate(tensor.shape.begin(), tensor.shape.end(),
                                                 int64_t{sizeof(float)}, std::multiplies<>());
  return bytes;
}

void export_model(const std::string& out_directory, const ParamTable& table,
                  const VlmConfig& config, const ExportSources& sources,
                  const OpenUnit& open_unit) {
  const ParamMap params = map_of(table, open_unit);
  std::string place = out_directory;
  while (place.size() > 1 && place.ends_with('/')) place.pop_back();
  const std::string working = make_partial_directory(place);
  try {
    write_parts(working, params, config, sources);
    publish_directory(working, place);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove_all(working, ignored);
    throw;
  }
}

}  // namespace facet
