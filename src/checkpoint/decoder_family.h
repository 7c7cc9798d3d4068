// The families of decoders whose files are read. All of them are LLaMA's decoder with details that
// LlamaConfig holds; a family says what its config.json may leave out, and how Transformers calls
// it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace facet {

struct DecoderFamily {
  enum class Biases : uint8_t {
    kAsConfigured,  // attention_bias: of q, k, v and o; mlp_bias: of gate, up and down
    kQkv,           // of q, k and v, always
    kNone,
  };
  enum class Window : uint8_t {
    kNone,
    kEveryLayer,   // sliding_window, unless it is null
    kUpperLayers,  // with use_sliding_window; layer_types, or the layers from max_window_layers on
  };

  struct Sizes {
    int64_t width, inner, layers, heads, tokens;
  };

  const char* model_type;    // in config.json
  const char* architecture;  // the class in Transformers, in config.json too
  Biases biases;
  Window window;
  // What Transformers takes where config.json lacks the key.
  int64_t num_key_value_heads;  // 0: num_attention_heads
  int64_t max_position_embeddings;
  Sizes usual;
};

inline constexpr std::array<DecoderFamily, 3> kDecoderFamilies = {{
    {"llama",
     "LlamaForCausalLM",
     DecoderFamily::Biases::kAsConfigured,
     DecoderFamily::Window::kNone,
     0,
     2048,
     {4096, 11008, 32, 32, 32000}},
    {"mistral",
     "MistralForCausalLM",
     DecoderFamily::Biases::kNone,
     DecoderFamily::Window::kEveryLayer,
     8,
     131072,
     {4096, 14336, 32, 32, 32000}},
    {"qwen2",
     "Qwen2ForCausalLM",
     DecoderFamily::Biases::kQkv,
     DecoderFamily::Window::kUpperLayers,
     32,
     32768,
     {4096, 22016, 32, 32, 151936}},
}};

// The family of this model_type, or null.
const DecoderFamily* find_decoder_family(std::string_view model_type);
// "llama, mistral and qwen2"
std::string decoder_family_names();

}  // namespace facet
