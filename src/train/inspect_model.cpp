#include "train/inspect_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "checkpoint/decoder_family.h"
#include "checkpoint/hugging_face.h"
#include "data/chat_template.h"
#include "data/tokenizer.h"
#include "io/json.h"
#include "model/llama.h"
#include "ops/attention_widths.h"
#include "train/inspect_weights.h"

namespace facet {

namespace {

std::string family_text(const std::string& directory) {
  const JsonDocument config = JsonDocument::read_config(directory + "/config.json");
  const std::string type(decoder_settings(config.root()).at("model_type").as_string());
  return fmt::format("{} ({})", type, find_decoder_family(type)->architecture);
}

std::string heads_text(const LlamaConfig& config) {
  return fmt::format(
      "{} of width {} over {} for keys and values; {}", config.num_attention_heads, config.head_dim,
      config.num_key_value_heads,
      has_tensor_core_width(config.head_dim)
          ? "on a GPU's tensor cores in bf16 and fp16"
          : fmt::format("on a GPU without tensor cores, which take widths {}: much slower",
                        fmt::join(kTensorCoreWidths, ", ")));
}

std::string positions_text(const LlamaConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  const char* name = scaling.type == RopeScaling::Type::kLinear    ? "linear"
                     : scaling.type == RopeScaling::Type::kDynamic ? "dynamic"
                     : scaling.type == RopeScaling::Type::kLlama3  ? "llama3"
                                                                   : nullptr;
  return fmt::format(
      "rotary, base {}, {}", config.rope_theta,
      name == nullptr ? "not scaled" : fmt::format("scaled ({}, factor {})", name, scaling.factor));
}

std::string window_text(const LlamaConfig& config) {
  std::vector<int64_t> layers;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer)
    if (config.has_window(layer)) layers.push_back(layer);
  if (layers.empty()) return "none: every token attends to all before it";
  const bool all = static_cast<int64_t>(layers.size()) == config.num_hidden_layers;
  return fmt::format("{} positions in {}", config.sliding_window,
                     all ? "every layer" : fmt::format("layers {}", fmt::join(layers, " ")));
}

std::string biases_text(const LlamaConfig& config) {
  std::vector<const char*> names;
  if (config.qkv_bias) names.push_back("q, k, v");
  if (config.out_bias) names.push_back("o");
  if (config.mlp_bias) names.push_back("gate, up, down");
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

std::string tokens_text(const Tokenizer& tokenizer, const LlamaConfig& config) {
  const auto token = [&](int32_t id) {
    return fmt::format("{} ({})", tokenizer.text_of_added(id), id);
  };
  const int64_t more = tokenizer.base_vocab_size() - config.vocab_size;
  return fmt::format(
      "{} tokens{}; {}; ends with {}", tokenizer.base_vocab_size(),
      more > 0 ? fmt::format(", {} of them without a row in the model, which adds it", more) : "",
      tokenizer.bos_id() ? "begins with " + token(*tokenizer.bos_id()) : "no begin token",
      token(tokenizer.eos_id()));
}

std::string templates_text(const Tokenizer& tokenizer) {
  std::vector<std::string> names = chat_template_names();
  std::erase_if(names, [&](const std::string& name) { return !fits_template(name, tokenizer); });
  return fmt::format("its tokens allow --chat_template {}", fmt::join(names, ", "));
}

// Reads it, as training would.
void print_tokenizer(const std::string& directory, const LlamaConfig& config,
                     std::vector<std::string>& missing) {
  const std::string file = tokenizer_file(directory);
  if (file.empty()) return missing.emplace_back("tokenizer.model or tokenizer.json"), void();
  try {
    const Tokenizer tokenizer(directory, PromptStyle::kCorrect);
    say("tokenizer", fmt::format("{}: {}", file, tokens_text(tokenizer, config)));
    say("templates", templates_text(tokenizer));
  } catch (const Error& error) {
    missing.push_back(fmt::format("tokenizer: {}", error.what()));
  }
}

}  // namespace

void print_decoder(const std::string& directory, const LlamaConfig& config,
                   std::vector<std::string>& missing) {
  say("family", family_text(directory));
  say("size", fmt::format("{} layers, width {}, {} inside, {} tokens", config.num_hidden_layers,
                          config.hidden_size, config.intermediate_size, config.vocab_size));
  say("heads", heads_text(config));
  say("positions", positions_text(config));
  say("window", window_text(config));
  say("biases", biases_text(config));
  say("head", config.tie_word_embeddings ? "tied to embed_tokens" : "lm_head of its own");
  const std::vector<int32_t> ends = read_end_tokens(directory);
  say("end tokens", ends.empty() ? "the tokenizer's own" : fmt::format("{}", fmt::join(ends, " ")));
  print_tokenizer(directory, config, missing);
}

bool is_model_directory(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path + "/config.json", ignored);
}

int inspect_model(const std::string& directory) {
  const LlamaConfig config = read_llama_config(directory);
  log("language model {}", directory);
  std::vector<std::string> missing;
  print_decoder(directory, config, missing);
  VlmConfig whole;
  whole.lm = config;
  ParamTable table;
  const LlamaDecoder decoder(table, whole);
  check_weights(directory, {{LlavaPart::kDecoder, table}}, missing);
  return end_of_inspection(missing);
}

}  // namespace facet
