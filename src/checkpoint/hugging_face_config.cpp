#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "checkpoint/decoder_family.h"
#include "checkpoint/hugging_face.h"
#include "io/json.h"
#include "io/llava_directory.h"
#include "io/tensor_directory.h"
#include "model/attention_pool.h"

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

// "quantization" is MLX's key.
void refuse_quantized(const JsonValue& root) {
  for (const char* key : {"quantization_config", "quantization"})
    if (const auto value = root.find(key); value && !value->is_null())
      value->reject(
          "quantised weights are not supported; give the directory of the original model");
}

// Of Qwen-VL's vision encoder. DeepSpeed-VisualChat's copy of it calls itself a CLIP model: only
// the pool among its tensors reveals it. How many rows these two have no configuration tells.
constexpr std::string_view kPoolQuery = "attn_pool.query";
constexpr std::string_view kPositions = "positional_embedding";

// The shape of the tensor that has this name below any prefix; {} where there is none, as without
// weights, where a run can still be planned.
std::vector<int64_t> shape_of(const std::string& directory, std::string_view name) {
  if (!TensorDirectory::is_there(directory)) return {};
  const TensorDirectory tensors(directory);
  for (const std::string& there : tensors.names())
    if (there.ends_with(name)) return tensors.find(there)->shape;
  return {};
}

// Rows of a square grid by the width, as the family's own code has them, or as in the file.
std::vector<int64_t> grid_in(const std::string& directory, std::string_view name, int64_t width) {
  constexpr int64_t kRows = 256;
  const std::vector<int64_t> shape = shape_of(directory, name);
  if (shape.empty()) return {kRows, width};
  const auto side = [&] { return std::llround(std::sqrt(static_cast<double>(shape[0]))); };
  CHECK(shape.size() == 2 && shape[0] >= 1 && shape[0] <= kMaxTokens && shape[1] >= 1 &&
            shape[1] <= kMaxWidth && side() * side() == shape[0],
        ExitCode::kConfig, "{}: {} is {}, expected a row for each place of a square", directory,
        name, fmt::join(shape, " x "));
  return shape;
}

// Those of LLaVA's models that sound like the one that is read.
void refuse_other_llava(const JsonValue& type) {
  if (type.as_string() != "llava" && type.as_string().find("llava") != std::string_view::npos)
    type.reject(fmt::format(
        "{} is not supported; of LLaVA's models 1.5 is, as Transformers saves it (llava)",
        type.as_string()));
}

// The family whose model_type it is. `whole`: that of a whole model, with the encoder's settings
// under vision_config.
const VisionTraits& vision_family(const JsonValue& type, bool& whole) {
  std::string known;
  refuse_other_llava(type);
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

// Key, or the one that Qwen-VL's own configuration has for it.
struct SizeKeys {
  const char* usual;
  const char* qwen;
};

int64_t qwen_size(const JsonValue& settings, const SizeKeys& keys, int64_t fallback, int64_t most) {
  return size_or(settings, settings.find(keys.qwen) ? keys.qwen : keys.usual, fallback, most);
}

int64_t qwen_inner(const JsonValue& settings, int64_t width) {
  const double ratio = positive_real(settings, "mlp_ratio", 4.9231, static_cast<double>(kMaxInner));
  const double inner = std::floor(static_cast<double>(width) * ratio);
  if (!settings.find("intermediate_size") && !(inner >= 1 && inner <= kMaxInner))
    settings.reject(fmt::format("mlp_ratio {} of width {} is out of range", ratio, width));
  return size_or(settings, "intermediate_size", static_cast<int64_t>(inner), kMaxInner);
}

// Sizes are those of Qwen-VL where a file leaves them out. The rest is the same in all of its
// encoders, whatever a file says that calls them a CLIP.
void read_qwen_vl(const JsonValue& settings, const std::string& directory, VisionConfig& config) {
  constexpr int64_t kPoolWidth = 4096;
  config.family = VisionFamily::kQwenVl;
  config.hidden_size = qwen_size(settings, {"hidden_size", "width"}, 1664, kMaxWidth);
  config.intermediate_size = qwen_inner(settings, config.hidden_size);
  config.num_hidden_layers = qwen_size(settings, {"num_hidden_layers", "layers"}, 48, kMaxLayers);
  config.num_attention_heads = qwen_size(settings, {"num_attention_heads", "heads"}, 16, kMaxHeads);
  config.patch_size = size_or(settings, "patch_size", config.traits().default_patch_size, kMaxSide);
  const auto grid_rows = static_cast<double>(grid_in(directory, kPositions, config.hidden_size)[0]);
  config.image_size = std::llround(std::sqrt(grid_rows)) * config.patch_size;
  const std::vector<int64_t> query =
      grid_in(directory, kPoolQuery, size_or(settings, "output_dim", kPoolWidth, kMaxWidth));
  config.pool_queries = query[0];
  config.pool_width = query[1];
  config.hidden_act = config.traits().default_activation;
  config.layer_norm_eps = config.traits().default_eps;
  check_heads(settings, config.hidden_size, config.num_attention_heads);
  CHECK(config.pool_width % AttentionPool::kHeadWidth == 0, ExitCode::kConfig,
        "{}: the pool of its vision encoder is {} wide, no multiple of {}", directory,
        config.pool_width, AttentionPool::kHeadWidth);
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

void refuse_partial_rotation(const JsonValue& config) {
  if (config.get_double("partial_rotary_factor", 1) != 1)
    config.at("partial_rotary_factor").reject("heads that are rotated in part are not supported");
}

struct Rope {
  double theta = 0;
  RopeScaling scaling;

  bool operator==(const Rope&) const = default;
};

// Of one of the two objects that may describe it; theta: where the object has none.
Rope read_rope_object(const JsonValue& object, double theta) {
  for (int64_t i = 0; i < object.size(); ++i)
    if (const auto [kind, value] = object.member(i); value.is_object())
      value.reject(
          fmt::format("angles of their own for layers of the kind {} are not supported", kind));
  refuse_partial_rotation(object);
  Rope rope{positive_real(object, "rope_theta", theta, kMaxRope), {}};
  if (object.find("rope_type") || object.find("type") || object.find("factor"))
    rope.scaling = read_rope_scaling(object);
  return rope;
}

// rope_theta and rope_scaling, or rope_parameters, which holds both in newer files. Transformers
// takes rope_scaling where both are there, and no theta from rope_parameters then.
void read_rope(const JsonValue& root, LlamaConfig& config) {
  refuse_partial_rotation(root);
  const double theta = positive_real(root, "rope_theta", 10000, kMaxRope);
  const auto object = [&](const char* key) {
    const auto found = root.find(key);
    return found && !found->is_null() ? found : std::nullopt;
  };
  const auto older = object("rope_scaling"), newer = object("rope_parameters");
  Rope rope{theta, {}};
  if (older || newer) rope = read_rope_object(older ? *older : *newer, theta);
  if (older && newer && rope != read_rope_object(*newer, theta))
    older->reject("it says otherwise than rope_parameters; remove one of the two");
  config.rope_theta = rope.theta;
  config.rope_scaling = rope.scaling;
}

// Where the key is missing the family's default; where it is null one for each query head.
int64_t key_value_heads(const JsonValue& root, const DecoderFamily& family, int64_t heads) {
  const auto value = root.find("num_key_value_heads");
  if (value && !value->is_null()) return size_up_to(kMaxHeads, *value);
  return value || family.num_key_value_heads == 0 ? heads : family.num_key_value_heads;
}

void read_biases(const JsonValue& root, const DecoderFamily& family, LlamaConfig& config) {
  config.qkv_bias = family.biases == DecoderFamily::Biases::kQkv;
  const auto given = [&](const char* key) {
    if (!root.get_bool(key, false)) return false;
    if (family.biases != DecoderFamily::Biases::kAsConfigured)
      root.at(key).reject(fmt::format("models of type {} have no such biases", family.model_type));
    return true;
  };
  if (given("attention_bias")) config.qkv_bias = config.out_bias = true;
  config.mlp_bias = given("mlp_bias");
}

// Which layers have the window, by layer_types.
std::vector<uint8_t> window_layers_of(const JsonValue& types, int64_t layers) {
  if (types.size() != layers)
    types.reject(fmt::format("{} entries for {} layers", types.size(), layers));
  std::vector<uint8_t> has_window;
  for (const JsonValue type : types) {
    has_window.push_back(type.as_string() == "sliding_attention");
    if (!has_window.back() && type.as_string() != "full_attention")
      type.reject(fmt::format("{} is not supported; full_attention and sliding_attention are",
                              type.as_string()));
  }
  return has_window;
}

// Transformers: 4096 where sliding_window is missing, none where it is null.
void read_window(const JsonValue& root, const DecoderFamily& family, LlamaConfig& config) {
  constexpr int64_t kDefaultWindow = 4096, kDefaultFullLayers = 28;
  if (family.window == DecoderFamily::Window::kNone) return;
  const auto window = root.find("sliding_window");
  const bool by_layer = family.window == DecoderFamily::Window::kUpperLayers;
  const bool used = !by_layer || root.get_bool("use_sliding_window", false);
  if (used && !(window && window->is_null()))
    config.sliding_window = size_or(root, "sliding_window", kDefaultWindow, kMaxPositions);
  std::vector<uint8_t>& layers = config.window_layers;
  if (const auto types = root.find("layer_types"); types && !types->is_null()) {
    layers = window_layers_of(*types, config.num_hidden_layers);
    const bool any = std::find(layers.begin(), layers.end(), 1) != layers.end();
    const bool all = std::find(layers.begin(), layers.end(), 0) == layers.end();
    if (any && config.sliding_window == 0)
      types->reject(
          "sliding_attention without a window; set sliding_window (and for qwen2 "
          "use_sliding_window)");
    if (!all && config.sliding_window > 0 && !by_layer)
      types->reject(fmt::format("in a model of type {} every layer has the sliding_window",
                                family.model_type));
  } else if (by_layer && config.sliding_window > 0) {
    const int64_t full = root.get_int("max_window_layers", kDefaultFullLayers);
    for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer)
      layers.push_back(layer >= full);
  }
  if (std::find(layers.begin(), layers.end(), 1) == layers.end() && !layers.empty())
    config.sliding_window = 0;
}

const DecoderFamily& family_of(const JsonValue& root) {
  const JsonValue type = root.at("model_type");
  refuse_other_llava(type);
  const DecoderFamily* family = find_decoder_family(type.as_string());
  if (family == nullptr)
    type.reject(fmt::format("{} is not supported; decoders are read of the types {}",
                            type.as_string(), decoder_family_names()));
  return *family;
}

// `usual`: of a whole model, whose file leaves out what Transformers takes by default.
void read_sizes(const JsonValue& root, const DecoderFamily::Sizes* usual, LlamaConfig& config) {
  using Sizes = DecoderFamily::Sizes;
  const auto size = [&](const char* key, int64_t Sizes::*by_default, int64_t most) {
    return usual == nullptr ? required_size(root, key, most)
                            : size_or(root, key, usual->*by_default, most);
  };
  config.hidden_size = size("hidden_size", &Sizes::width, kMaxWidth);
  config.intermediate_size = size("intermediate_size", &Sizes::inner, kMaxInner);
  config.num_hidden_layers = size("num_hidden_layers", &Sizes::layers, kMaxLayers);
  config.num_attention_heads = size("num_attention_heads", &Sizes::heads, kMaxHeads);
  config.vocab_size = size("vocab_size", &Sizes::tokens, kMaxTokens);
}

void check_decoder_kind(const JsonValue& root) {
  refuse_quantized(root);
  if (const std::string act = root.get_string("hidden_act", "silu"); act != "silu")
    root.at("hidden_act").reject(fmt::format("{} is not supported; silu is", act));
}

// Of a directory that holds the encoder alone, or a whole model.
JsonValue encoder_settings(const JsonValue& root) {
  if (!is_llava(root)) return root;
  read_llava_choices(root);
  return root.at("vision_config");
}

}  // namespace

JsonValue decoder_settings(const JsonValue& root) {
  if (!is_llava(root)) return root;
  read_llava_choices(root);
  return root.at("text_config");
}

VisionConfig read_vision_config(const std::string& directory) {
  const JsonDocument document = read_config(directory);
  refuse_quantized(document.root());
  const JsonValue root = encoder_settings(document.root());
  bool whole = false;
  const VisionTraits& traits = vision_family(root.at("model_type"), whole);
  const JsonValue vision = whole ? root.at(traits.settings_key) : root;
  VisionConfig config;
  if (traits.pool || !shape_of(directory, kPoolQuery).empty()) {
    read_qwen_vl(vision, directory, config);
    return config;
  }

  // Keys that are missing have Transformers' defaults, which it omits when saving.
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
  return config;
}

void check_llava_features(const std::string& lm_directory, const VisionConfig& encoder) {
  if (!is_llava_directory(lm_directory)) return;
  const JsonDocument document = read_config(lm_directory);
  const LlavaChoices choices = read_llava_choices(document.root());
  const VisionTraits& traits = encoder.traits();
  if (choices.drop_class_token && !traits.class_token)
    document.root().reject(
        fmt::format("vision_feature_select_strategy default leaves out the class token, and the {} "
                    "vision encoder has none; only models with full are supported with it",
                    traits.name));
  // Transformers takes the layers' outputs, which post_layernorm does not belong to.
  if (choices.vision_feature_layer == -1 && traits.post_norm)
    document.root().reject(
        fmt::format("vision_feature_layer: the last layer of the {} vision encoder without its "
                    "post_layernorm is not supported; -2 and earlier ones are",
                    traits.name));
}

LlamaConfig read_llama_config(const std::string& directory) {
  const JsonDocument document = read_config(directory);
  refuse_quantized(document.root());
  const JsonValue root = decoder_settings(document.root());
  const DecoderFamily& family = family_of(root);
  check_decoder_kind(root);

  LlamaConfig config;
  read_sizes(root, is_llava(document.root()) ? &family.usual : nullptr, config);
  config.num_key_value_heads = key_value_heads(root, family, config.num_attention_heads);
  config.max_position_embeddings =
      size_or(root, "max_position_embeddings", family.max_position_embeddings, kMaxPositions);
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
    root.reject(fmt::format(
        "num_key_value_heads {} does not divide num_attention_heads {}; correct one of them",
        config.num_key_value_heads, config.num_attention_heads));
  read_rope(root, config);
  read_biases(root, family, config);
  read_window(root, family, config);
  return config;
}

std::vector<int32_t> read_end_tokens(const std::string& directory) {
  for (const char* file : {"/generation_config.json", "/config.json"}) {
    std::error_code ignored;
    if (!std::filesystem::exists(directory + file, ignored)) continue;
    const JsonDocument document = JsonDocument::read_config(directory + file);
    const JsonValue root = decoder_settings(document.root());
    const std::optional<JsonValue> value = root.find("eos_token_id");
    if (!value || value->is_null()) continue;
    if (!value->is_array()) return {token_id(*value)};
    std::vector<int32_t> ids;
    for (const JsonValue id : *value) ids.push_back(token_id(id));
    return ids;
  }
  return {};
}

}  // namespace facet
