#include "data/tiny/models.h"

#include <fmt/core.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <unordered_map>
#include <utility>

#include "base/check.h"
#include "base/rng.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace facet::tiny {
namespace {

constexpr int64_t kImageSize = 48;  // R
constexpr int64_t kPatchSize = 8;
constexpr int64_t kSiglipImageSize = 52;  // leaves a margin of half a patch
constexpr int64_t kWidth = 128;           // C and D
constexpr int64_t kHeads = 4;             // H
constexpr int64_t kKeyValueHeads = 2;     // G
constexpr int64_t kPoolWidth = 256;       // of Qwen-VL's encoder
constexpr int64_t kPoolPlaces = 16;       // its queries, and its positions before they are resized
constexpr int64_t kVisionLayers = 3;
constexpr int64_t kVisionFeedForward = 512;
constexpr int64_t kLmLayers = 3;
constexpr int64_t kLmFeedForward = 352;
constexpr int64_t kWindow = 24;
constexpr int64_t kMaxVocabulary = 768;

// The tensors of one model. A standard deviation of 1/sqrt(inputs) keeps activations at the size of
// one from the first step on; that is larger than what large models start from, and learns faster.
class Weights {
 public:
  explicit Weights(uint64_t seed) : seed_(seed) {}

  void normal(const std::string& name, std::vector<int64_t> shape, double std) {
    auto values = std::make_shared<std::vector<float>>(static_cast<size_t>(numel(shape)));
    RandomStream draws(seed_, "weights", hash_name(name));
    for (float& value : *values) value = static_cast<float>(std * draws.normal());
    add(name, std::move(shape), std::move(values));
  }
  void constant(const std::string& name, int64_t size, float value) {
    add(name, {size}, std::make_shared<std::vector<float>>(static_cast<size_t>(size), value));
  }
  // Weight (out, in).
  void matrix(const std::string& name, int64_t out, int64_t in, double scale = 1) {
    normal(name + ".weight", {out, in}, scale / std::sqrt(static_cast<double>(in)));
  }
  void matrix_and_bias(const std::string& name, int64_t out, int64_t in, double scale = 1) {
    matrix(name, out, in, scale);
    constant(name + ".bias", out, 0);
  }
  void layer_norm(const std::string& name, int64_t width = kWidth) {
    constant(name + ".weight", width, 1);
    constant(name + ".bias", width, 0);
  }

  void write(const std::string& directory) {
    write_safetensors(directory + "/model.safetensors", std::move(tensors_));
  }

 private:
  static int64_t numel(const std::vector<int64_t>& shape) {
    int64_t n = 1;
    for (const int64_t size : shape) n *= size;
    return n;
  }
  void add(const std::string& name, std::vector<int64_t> shape,
           std::shared_ptr<std::vector<float>> values) {
    tensors_.push_back({name, std::move(shape), [values](int64_t begin, int64_t count, float* out) {
                          std::copy_n(values->begin() + begin, count, out);
                        }});
  }

  uint64_t seed_;
  std::vector<TensorToWrite> tensors_;
};

// Branches add up over 2 * layers additions; their last matrix is scaled so that the sum stays at
// one.
double branch_scale(int64_t layers) { return 1 / std::sqrt(2.0 * static_cast<double>(layers)); }

struct Field {
  const char* key;
  double value;
};

// Integers and reals as Hugging Face writes them.
void write_fields(JsonWriter& json, std::initializer_list<Field> fields) {
  for (const Field& field : fields) {
    json.key(field.key);
    if (field.value == std::floor(field.value) && field.value >= 1) {
      json.value(static_cast<int64_t>(field.value));
    } else {
      json.value(field.value);
    }
  }
}

// What the two vision encoders write differently into config.json.
struct EncoderNames {
  const char* architecture;
  const char* model_type;
  const char* activation;
  int64_t image_size;
  double eps;
};

void write_vision_config(const std::string& directory, const EncoderNames& names) {
  JsonWriter json;
  json.begin_object();
  json.key("architectures").begin_array();
  json.value(names.architecture);
  json.end_array();
  json.key("model_type").value(names.model_type);
  json.key("hidden_act").value(names.activation);
  json.key("torch_dtype").value("float32");
  write_fields(json, {{"hidden_size", kWidth},
                      {"intermediate_size", kVisionFeedForward},
                      {"projection_dim", kWidth},
                      {"num_hidden_layers", kVisionLayers},
                      {"num_attention_heads", kHeads},
                      {"num_channels", 3},
                      {"image_size", static_cast<double>(names.image_size)},
                      {"patch_size", kPatchSize},
                      {"layer_norm_eps", names.eps}});
  json.end_object();
  write_file(directory + "/config.json", json.take());
}

// The background becomes about zero, so that what is drawn makes the patches' embeddings.
void write_statistics(JsonWriter& json) {
  for (const auto& [statistic, value] : {std::pair{"image_mean", 0.86}, {"image_std", 0.3}}) {
    json.key(statistic).begin_array();
    for (int c = 0; c < 3; ++c) json.value(value);
    json.end_array();
  }
}

void write_clip_processor(const std::string& directory) {
  JsonWriter json;
  json.begin_object();
  json.key("image_processor_type").value("CLIPImageProcessor");
  for (const char* step :
       {"do_convert_rgb", "do_resize", "do_center_crop", "do_rescale", "do_normalize"})
    json.key(step).value(true);
  json.key("resample").value(int64_t{3});
  json.key("size").begin_object();
  json.key("shortest_edge").value(kImageSize);
  json.end_object();
  json.key("crop_size").begin_object();
  json.key("height").value(kImageSize);
  json.key("width").value(kImageSize);
  json.end_object();
  json.key("rescale_factor").value(1.0 / 255.0);
  write_statistics(json);
  json.end_object();
  write_file(directory + "/preprocessor_config.json", json.take());
}

void write_siglip_processor(const std::string& directory) {
  JsonWriter json;
  json.begin_object();
  json.key("image_processor_type").value("SiglipImageProcessor");
  json.key("size").begin_object();
  json.key("height").value(kSiglipImageSize);
  json.key("width").value(kSiglipImageSize);
  json.end_object();
  write_statistics(json);
  json.end_object();
  write_file(directory + "/preprocessor_config.json", json.take());
}

bool is_tied(Decoder decoder) { return decoder == Decoder::kLlama3 || decoder == Decoder::kQwen2; }

void write_end_tokens(JsonWriter& json, Decoder decoder) {
  json.key("eos_token_id");
  if (decoder != Decoder::kLlama3) {
    json.value(int64_t{2});
    return;
  }
  json.begin_array();
  for (const int64_t id : {2, 3}) json.value(id);
  json.end_array();
}

// The keys that only this kind of decoder has.
void write_own_keys(JsonWriter& json, Decoder decoder) {
  switch (decoder) {
    case Decoder::kLlama2: json.key("attention_bias").value(false); break;
    case Decoder::kLlama3:
      json.key("rope_scaling").begin_object();
      json.key("rope_type").value("llama3");
      write_fields(json, {{"factor", 8},
                          {"low_freq_factor", 1},
                          {"high_freq_factor", 4},
                          {"original_max_position_embeddings", 32}});
      json.end_object();
      break;
    case Decoder::kMistral: write_fields(json, {{"sliding_window", kWindow}}); break;
    case Decoder::kQwen2:
      json.key("use_sliding_window").value(true);
      write_fields(json, {{"sliding_window", kWindow}, {"max_window_layers", 1}});
      break;
  }
}

void write_lm_config(const std::string& directory, int64_t vocab_size, Decoder decoder) {
  const auto [architecture, model_type] =
      decoder == Decoder::kMistral ? std::pair{"MistralForCausalLM", "mistral"}
      : decoder == Decoder::kQwen2 ? std::pair{"Qwen2ForCausalLM", "qwen2"}
                                   : std::pair{"LlamaForCausalLM", "llama"};
  JsonWriter json;
  json.begin_object();
  json.key("architectures").begin_array();
  json.value(architecture);
  json.end_array();
  json.key("model_type").value(model_type);
  json.key("hidden_act").value("silu");
  json.key("torch_dtype").value("float32");
  json.key("tie_word_embeddings").value(is_tied(decoder));
  write_own_keys(json, decoder);
  write_fields(json, {{"vocab_size", static_cast<double>(vocab_size)},
                      {"hidden_size", kWidth},
                      {"intermediate_size", kLmFeedForward},
                      {"num_hidden_layers", kLmLayers},
                      {"num_attention_heads", kHeads},
                      {"num_key_value_heads", kKeyValueHeads},
                      {"max_position_embeddings", 1024},
                      {"rms_norm_eps", 1e-6},
                      {"initializer_range", 0.02},
                      {"rope_theta", 10000},
                      {"bos_token_id", 1}});
  write_end_tokens(json, decoder);
  json.end_object();
  write_file(directory + "/config.json", json.take());
}

class Sentences : public sentencepiece::SentenceIterator {
 public:
  explicit Sentences(const std::vector<std::string>& sentences) : sentences_(sentences) {}
  bool done() const override { return at_ == sentences_.size(); }
  void Next() override { ++at_; }
  const std::string& value() const override { return sentences_[at_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::vector<std::string>& sentences_;
  size_t at_ = 0;
};

// LLaMA's kind of tokenizer: BPE with byte fallback, text neither normalised nor trimmed. Returns
// the number of pieces.
int64_t train_tokenizer(const std::string& path, const std::vector<std::string>& sentences) {
  Sentences corpus(sentences);
  std::string model;
  const std::unordered_map<std::string, std::string> settings = {
      {"model_type", "bpe"},
      {"vocab_size", std::to_string(kMaxVocabulary)},
      {"hard_vocab_limit", "false"},
      {"byte_fallback", "true"},
      {"normalization_rule_name", "identity"},
      {"remove_extra_whitespaces", "false"},
      {"unk_id", "0"},
      {"bos_id", "1"},
      {"eos_id", "2"},
      {"pad_id", "-1"},
      {"num_threads", "1"},
      {"minloglevel", "2"}};
  const auto trained = sentencepiece::SentencePieceTrainer::Train(settings, &corpus, &model);
  ASSERT(trained.ok(), "training the tokenizer: {}", trained.ToString());
  write_file(path, model);
  sentencepiece::SentencePieceProcessor pieces;
  const auto loaded = pieces.LoadFromSerializedProto(model);
  ASSERT(loaded.ok(), "loading the tokenizer: {}", loaded.ToString());
  return pieces.GetPieceSize();
}

void add_patches(Weights& weights, int64_t positions) {
  const std::string embeddings = "vision_model.embeddings.";
  weights.normal(embeddings + "patch_embedding.weight", {kWidth, 3, kPatchSize, kPatchSize},
                 1 / std::sqrt(3.0 * kPatchSize * kPatchSize));
  weights.normal(embeddings + "position_embedding.weight", {positions, kWidth}, 0.8);
}

void add_vision_blocks(Weights& weights) {
  for (int64_t layer = 0; layer < kVisionLayers; ++layer) {
    const std::string block = fmt::format("vision_model.encoder.layers.{}.", layer);
    weights.layer_norm(block + "layer_norm1");
    weights.layer_norm(block + "layer_norm2");
    for (const char* name : {"q_proj", "k_proj", "v_proj"})
      weights.matrix_and_bias(block + "self_attn." + name, kWidth, kWidth);
    weights.matrix_and_bias(block + "self_attn.out_proj", kWidth, kWidth,
                            branch_scale(kVisionLayers));
    weights.matrix_and_bias(block + "mlp.fc1", kVisionFeedForward, kWidth);
    weights.matrix_and_bias(block + "mlp.fc2", kWidth, kVisionFeedForward,
                            branch_scale(kVisionLayers));
  }
  weights.layer_norm("vision_model.post_layernorm");
}

// As Qwen-VL's own configuration has it. The language model's keys are left out.
void write_qwen_vl_config(const std::string& directory) {
  JsonWriter json;
  json.begin_object();
  json.key("architectures").begin_array();
  json.value("QWenLMHeadModel");
  json.end_array();
  json.key("model_type").value("qwen");
  json.key("visual").begin_object();
  write_fields(json, {{"heads", kHeads},
                      {"image_size", kImageSize},
                      {"layers", kVisionLayers},
                      {"mlp_ratio", kVisionFeedForward / kWidth},
                      {"output_dim", kPoolWidth},
                      {"patch_size", kPatchSize},
                      {"width", kWidth}});
  json.end_object();
  json.end_object();
  write_file(directory + "/config.json", json.take());
}

void add_pool(Weights& weights, const std::string& pool) {
  weights.normal(pool + "query", {kPoolPlaces, kPoolWidth}, 1);
  weights.normal(pool + "pos_embed", {kPoolPlaces, kPoolWidth}, 0.7);
  weights.matrix(pool + "kv_proj", kPoolWidth, kWidth);
  weights.normal(pool + "attn.in_proj_weight", {3 * kPoolWidth, kPoolWidth},
                 1 / std::sqrt(static_cast<double>(kPoolWidth)));
  weights.constant(pool + "attn.in_proj_bias", 3 * kPoolWidth, 0);
  weights.matrix_and_bias(pool + "attn.out_proj", kPoolWidth, kPoolWidth);
  weights.layer_norm(pool + "ln_q", kPoolWidth);
  weights.layer_norm(pool + "ln_kv", kPoolWidth);
}

}  // namespace

void write_clip(const std::string& directory, uint64_t seed) {
  make_directories(directory);
  write_vision_config(directory,
                      {"CLIPVisionModel", "clip_vision_model", "quick_gelu", kImageSize, 1e-5});
  write_clip_processor(directory);
  constexpr int64_t grid = kImageSize / kPatchSize;
  Weights weights(seed);
  weights.normal("vision_model.embeddings.class_embedding", {kWidth}, 0.1);
  add_patches(weights, 1 + grid * grid);
  weights.layer_norm("vision_model.pre_layrnorm");
  add_vision_blocks(weights);
  weights.write(directory);
}

void write_siglip(const std::string& directory, uint64_t seed) {
  make_directories(directory);
  write_vision_config(directory, {"SiglipVisionModel", "siglip_vision_model", "gelu_pytorch_tanh",
                                  kSiglipImageSize, 1e-6});
  write_siglip_processor(directory);
  constexpr int64_t grid = kSiglipImageSize / kPatchSize;
  Weights weights(seed);
  add_patches(weights, grid * grid);
  weights.constant("vision_model.embeddings.patch_embedding.bias", kWidth, 0);
  add_vision_blocks(weights);
  // Of the pooling head, which makes no features.
  weights.normal("vision_model.head.probe", {1, 1, kWidth}, 1);
  weights.write(directory);
}

void write_qwen_vl(const std::string& directory, uint64_t seed) {
  const std::string root = "transformer.visual.";
  make_directories(directory);
  write_qwen_vl_config(directory);
  Weights weights(seed);
  weights.normal(root + "conv1.weight", {kWidth, 3, kPatchSize, kPatchSize},
                 1 / std::sqrt(3.0 * kPatchSize * kPatchSize));
  weights.normal(root + "positional_embedding", {kPoolPlaces, kWidth}, 0.8);
  weights.layer_norm(root + "ln_pre");
  for (int64_t layer = 0; layer < kVisionLayers; ++layer) {
    const std::string block = fmt::format("{}transformer.resblocks.{}.", root, layer);
    weights.layer_norm(block + "ln_1");
    weights.layer_norm(block + "ln_2");
    weights.matrix_and_bias(block + "attn.in_proj", 3 * kWidth, kWidth);
    weights.matrix_and_bias(block + "attn.out_proj", kWidth, kWidth, branch_scale(kVisionLayers));
    weights.matrix_and_bias(block + "mlp.c_fc", kVisionFeedForward, kWidth);
    weights.matrix_and_bias(block + "mlp.c_proj", kWidth, kVisionFeedForward,
                            branch_scale(kVisionLayers));
  }
  add_pool(weights, root + "attn_pool.");
  weights.layer_norm(root + "ln_post", kPoolWidth);
  weights.normal(root + "proj", {kPoolWidth, kPoolWidth}, 1);  // nothing reads it
  weights.normal("transformer.ln_f.weight", {kWidth}, 1);
  weights.write(directory);
}

Decoder decoder_named(const std::string& name) {
  for (const auto& [known, decoder] : {std::pair{"llama2", Decoder::kLlama2},
                                       {"llama3", Decoder::kLlama3},
                                       {"mistral", Decoder::kMistral},
                                       {"qwen2", Decoder::kQwen2}})
    if (name == known) return decoder;
  fail(ExitCode::kUsage, "--decoder {}: expected llama2, llama3, mistral or qwen2", name);
}

void write_lm(const std::string& directory, const std::vector<std::string>& sentences,
              uint64_t seed, Decoder decoder) {
  make_directories(directory);
  const int64_t vocab_size = train_tokenizer(directory + "/tokenizer.model", sentences);
  write_lm_config(directory, vocab_size, decoder);
  constexpr int64_t head_width = kWidth / kHeads;
  Weights weights(seed);
  // As large as the image tokens, which leave the projection's LayerNorm with a size of one.
  weights.normal("model.embed_tokens.weight", {vocab_size, kWidth}, 1);
  if (!is_tied(decoder)) weights.matrix("lm_head", vocab_size, kWidth);
  weights.constant("model.norm.weight", kWidth, 1);
  for (int64_t layer = 0; layer < kLmLayers; ++layer) {
    const std::string block = fmt::format("model.layers.{}.", layer);
    weights.constant(block + "input_layernorm.weight", kWidth, 1);
    weights.constant(block + "post_attention_layernorm.weight", kWidth, 1);
    for (const auto& [name, width] : {std::pair{"q", kWidth},
                                      {"k", kKeyValueHeads * head_width},
                                      {"v", kKeyValueHeads * head_width}})
      if (decoder == Decoder::kQwen2)
        weights.normal(fmt::format("{}self_attn.{}_proj.bias", block, name), {width}, 0.3);
    weights.matrix(block + "self_attn.q_proj", kWidth, kWidth);
    weights.matrix(block + "self_attn.k_proj", kKeyValueHeads * head_width, kWidth);
    weights.matrix(block + "self_attn.v_proj", kKeyValueHeads * head_width, kWidth);
    weights.matrix(block + "self_attn.o_proj", kWidth, kWidth, branch_scale(kLmLayers));
    weights.matrix(block + "mlp.gate_proj", kLmFeedForward, kWidth);
    weights.matrix(block + "mlp.up_proj", kLmFeedForward, kWidth);
    weights.matrix(block + "mlp.down_proj", kWidth, kLmFeedForward, branch_scale(kLmLayers));
  }
  weights.write(directory);
}

}  // namespace facet::tiny
