#include <filesystem>

#include "checkpoint/hugging_face.h"
#include "io/json.h"
#include "io/tensor_directory.h"

namespace facet {

namespace {

// Sizes beyond these are mistakes: they leave room for ten times the largest models there are. As
// each product in a model has at most one factor of each kind (layers, width in, width out), no
// number of elements or bytes comes near 2^63.
constexpr int64_t kMaxLayers = 10'000;
constexpr int64_t kMaxWidth = int64_t{1} << 18;  // hidden_size
constexpr int64_t kMaxInner = int64_t{1} << 20;  // intermediate_size, all heads together
constexpr int64_t kMaxHeads = int64_t{1} << 16;
constexpr int64_t kMaxTokens = int64_t{1} << 24;     // vocab_size
constexpr int64_t kMaxPositions = int64_t{1} << 30;  // no memory depends on them
constexpr int64_t kMaxSide = int64_t{1} << 14;       // of an image or a patch, in pixels
constexpr double kMaxRope = 1e12;                    // base and factors of the rotary embedding

JsonDocument read_config(const std::string& directory) {
  std::error_code ignored;
  CHECK(std::filesystem::is_directory(directory, ignored), ExitCode::kMissingInput,
        "{}: no such directory; a model is given as a local directory", directory);
  CHECK(std::filesystem::exists(directory + "/config.json", ignored), ExitCode::kMissingInput,
        "{}: there is no config.json{}", directory, what_lies_there_instead(directory));
  return JsonDocument::read_config(directory + "/config.json");
}

int64_t size_up_to(int64_t most, const JsonValue& value) {
  const int64_t number = value.as_int();
  if (number < 1 || number > most)
    value.reject(fmt::format("{} is out of range; expected 1 to {}", number, most));
  return number;
}

int64_t required_size(const JsonValue& config, std::string_view key, int64_t most) {
  return size_up_to(most, config.at(key));
}

int64_t size_or(const JsonValue& config, std::string_view key, int64_t fallback, int64_t most) {
  const auto value = config.find(key);
  return value && !value->is_null() ? size_up_to(most, *value) : fallback;
}

double positive_real(const JsonValue& config, std::string_view key, double fallback, double most) {
  const double number = config.get_double(key, fallback);
  if (!(number > 0 && number <= most))
    config.at(key).reject(
        fmt::format("{} is out of range; expected above 0, up to {}", number, most));
  return number;
}

int32_t token_id(const JsonValue& value) {
  const int64_t id = value.as_int();
  if (id < 0 || id >= kMaxTokens) value.reject(fmt::format("{} is no token id", id));
  return static_cast<int32_t>(id);
}

void refuse_quantized(const JsonValue& root) {
  if (const auto value = root.find("quantization_config"); value && !value->is_null())
    value->reject("quantised weights are not supported; give the directory of the original model");
}

// Qwen-VL's vision encoder calls itself a CLIP model; only its tensors reveal it. Without weights a
// run can still be planned; loading reports that they are missing.
void refuse_qwen_vl(const std::string& directory) {
  if (!TensorDirectory::is_there(directory)) return;
  for (const std::string& name : TensorDirectory(directory).names())
    CHECK(!name.ends_with("attn_pool.query"), ExitCode::kConfig,
          "{}: {} marks the vision encoder of Qwen-VL, which is not supported yet; give the "
          "directory of CLIP or SigLIP",
          directory, name);
}

// The family whose model_type it is. `whole`: that of a whole model, with the encoder's settings
// under vision_config.
const VisionTraits& vision_family(const JsonValue& type, bool& whole) {
  std::string known;
  for (const VisionTraits& traits : all_vision_traits()) {
    whole = type.as_string() == traits.whole_type;
    if (whole || type.as_string() == traits.own_type) return traits;
    known += fmt::format("{}{} ({} or {})", known.empty() ? "" : ", ", traits.name,
                         traits.whole_type, traits.own_type);
  }
  type.reject(
      fmt::format("{} is not supported; vision encoders that are: {}", type.as_string(), known));
}

Activation vision_activation(const JsonValue& config, Activation fallback) {
  const auto value = config.find("hidden_act");
  if (!value || value->is_null()) return fallback;
  if (value->as_string() == "quick_gelu") return Activation::kQuickGelu;
  if (value->as_string() == "gelu") return Activation::kGelu;
  if (value->as_string() != "gelu_pytorch_tanh")
    value->reject(fmt::format("{} is not supported; quick_gelu, gelu and gelu_pytorch_tanh are",
                              value->as_string()));
  return Activation::kGeluTanh;
}

// Of images of its own size an encoder must see whole patches, of some families all of the image.
void check_patches(const JsonValue& vision, const VisionConfig& config) {
  if (config.image_size < config.patch_size)
    vision.reject(fmt::format("image_size {} is below patch_size {}; correct one of them",
                              config.image_size, config.patch_size));
  if (!config.traits().margin && config.image_size % config.patch_size != 0)
    vision.reject(fmt::format("image_size {} is no multiple of patch_size {}; correct one of them",
                              config.image_size, config.patch_size));
}

void check_heads(const JsonValue& config, int64_t width, int64_t heads) {
  if (width % heads != 0)
    config.reject(
        fmt::format("hidden_size {} is no multiple of num_attention_heads {}; correct one of them",
                    width, heads));
}

RopeScaling read_rope_scaling(const JsonValue& rope) {
  const auto rope_type = rope.find("rope_type");
  const auto old_type = rope.find("type");
  if (rope_type && old_type && rope_type->as_string() != old_type->as_string())
    rope.reject(fmt::format("rope_type {} and type {} contradict each other; remove one",
                            rope_type->as_string(), old_type->as_string()));
  const std::string_view type = rope_type ? rope_type->as_string() : rope.at("type").as_string();
  RopeScaling scaling;
  if (type == "default") return scaling;
  if (type == "linear") {
    scaling.type = RopeScaling::Type::kLinear;
  } else if (type == "dynamic") {
    scaling.type = RopeScaling::Type::kDynamic;
  } else if (type == "llama3") {
    scaling.type = RopeScaling::Type::kLlama3;
    scaling.low_freq_factor = rope.at("low_freq_factor").as_double();
    scaling.high_freq_factor = rope.at("high_freq_factor").as_double();
    scaling.original_max_position_embeddings =
        static_cast<double>(required_size(rope, "original_max_position_embeddings", kMaxPositions));
    if (!(scaling.low_freq_factor > 0) || !(scaling.high_freq_factor > scaling.low_freq_factor) ||
        !(scaling.high_freq_factor <= kMaxRope))
      rope.reject(fmt::format("low_freq_factor {} must be above 0 and below high_freq_factor {}",
                              scaling.low_freq_factor, scaling.high_freq_factor));
  } else {
    rope.reject(fmt::format("type {} is not supported; linear, dynamic and llama3 are", type));
  }
  scaling.factor = rope.at("factor").as_double();
  if (!(scaling.factor >= 1))
    rope.at("factor").reject(fmt::format("{} is below 1", scaling.factor));
  if (!(scaling.factor <= kMaxRope))
    rope.at("factor").reject(fmt::format("{} is above {}", scaling.factor, kMaxRope));
  return scaling;
}

// rope_theta and rope_scaling, or rope_parameters, which holds both in newer files.
void read_rope(const JsonValue& root, LlamaConfig& config) {
  config.rope_theta = positive_real(root, "rope_theta", 10000, kMaxRope);
  if (const auto both = root.find("rope_parameters"); both && !both->is_null()) {
    config.rope_theta = positive_real(*both, "rope_theta", config.rope_theta, kMaxRope);
    config.rope_scaling = read_rope_scaling(*both);
  } else if (const auto scaling = root.find("rope_scaling"); scaling && !scaling->is_null()) {
    config.rope_scaling = read_rope_scaling(*scaling);
  }
}

void check_llama_kind(const JsonValue& root) {
  const JsonValue type = root.at("model_type");
  if (type.as_string() != "llama")
    type.reject(fmt::format("{} is not supported; give the directory of a LLaMA model (llama)",
                            type.as_string()));
  refuse_quantized(root);
  for (const char* key : {"attention_bias", "mlp_bias"})
    if (root.get_bool(key, false))
      root.at(key).reject(
          "decoders with these biases are not supported; give a model without them");
  if (const std::string act = root.get_string("hidden_act", "silu"); act != "silu")
    root.at("hidden_act").reject(fmt::format("{} is not supported; silu is", act));
}

}  // namespace

VisionConfig read_vision_config(const std::string& directory) {
  const JsonDocument document = read_config(directory);
  const JsonValue root = document.root();
  bool whole = false;
  const VisionTraits& traits = vision_family(root.at("model_type"), whole);
  refuse_quantized(root);
  const JsonValue vision = whole ? root.at("vision_config") : root;

  // Keys that are missing have Transformers' defaults, which it omits when saving.
  VisionConfig config;
  config.family = traits.family;
  config.hidden_size = size_or(vision, "hidden_size", 768, kMaxWidth);
  config.intermediate_size = size_or(vision, "intermediate_size", 3072, kMaxInner);
  config.num_hidden_layers = size_or(vision, "num_hidden_layers", 12, kMaxLayers);
  config.num_attention_heads = size_or(vision, "num_attention_heads", 12, kMaxHeads);
  config.image_size = size_or(vision, "image_size", 224, kMaxSide);
  config.patch_size = size_or(vision, "patch_size", traits.default_patch_size, kMaxSide);
  config.hidden_act = vision_activation(vision, traits.default_activation);
  config.layer_norm_eps =
      static_cast<float>(positive_real(vision, "layer_norm_eps", traits.default_eps, 1));
  check_heads(vision, config.hidden_size, config.num_attention_heads);
  check_patches(vision, config);
  if (size_or(vision, "num_channels", 3, kMaxSide) != 3)
    vision.at("num_channels").reject("images have 3 channels here");
  refuse_qwen_vl(directory);
  return config;
}

LlamaConfig read_llama_config(const std::string& directory) {
  const JsonDocument document = read_config(directory);
  const JsonValue root = document.root();
  check_llama_kind(root);

  LlamaConfig config;
  config.hidden_size = required_size(root, "hidden_size", kMaxWidth);
  config.intermediate_size = required_size(root, "intermediate_size", kMaxInner);
  config.num_hidden_layers = required_size(root, "num_hidden_layers", kMaxLayers);
  config.num_attention_heads = required_size(root, "num_attention_heads", kMaxHeads);
  config.num_key_value_heads =
      size_or(root, "num_key_value_heads", config.num_attention_heads, kMaxHeads);
  config.vocab_size = required_size(root, "vocab_size", kMaxTokens);
  config.max_position_embeddings = size_or(root, "max_position_embeddings", 2048, kMaxPositions);
  config.rms_norm_eps = static_cast<float>(positive_real(root, "rms_norm_eps", 1e-6, 1));
  config.tie_word_embeddings = root.get_bool("tie_word_embeddings", false);
  config.head_dim = size_or(root, "head_dim", 0, kMaxHeads);
  if (config.head_dim == 0) {
    check_heads(root, config.hidden_size, config.num_attention_heads);
    config.head_dim = config.hidden_size / config.num_attention_heads;
  }
  if (config.num_attention_heads * config.head_dim > kMaxInner)
    root.reject(fmt::format("{} heads of {} are out of range; expected up to {} together",
                            config.num_attention_heads, config.head_dim, kMaxInner));
  if (config.head_dim % 2 != 0)
    root.reject(fmt::format("the heads are {} wide; the rotary embedding needs an even width",
                            config.head_dim));
  if (config.num_attention_heads % config.num_key_value_heads != 0)
    root.at("num_key_value_heads")
        .reject(fmt::format("{} does not divide num_attention_heads {}; correct one of them",
                            config.num_key_value_heads, config.num_attention_heads));
  read_rope(root, config);
  return config;
}

std::vector<int32_t> read_end_tokens(const std::string& directory) {
  for (const char* file : {"/generation_config.json", "/config.json"}) {
    std::error_code ignored;
    if (!std::filesystem::exists(directory + file, ignored)) continue;
    const JsonDocument document = JsonDocument::read_config(directory + file);
    const std::optional<JsonValue> value = document.root().find("eos_token_id");
    if (!value || value->is_null()) continue;
    if (!value->is_array()) return {token_id(*value)};
    std::vector<int32_t> ids;
    for (const JsonValue id : *value) ids.push_back(token_id(id));
    return ids;
  }
  return {};
}

}  // namespace facet
