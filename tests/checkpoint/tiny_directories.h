// Model directories of a tiny CLIP and LLaMA with random weights, as a test wants them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/rng.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "model/vlm.h"
#include "tests/io/temporary_directory.h"

namespace facet {

constexpr int64_t kFileRows = 11;  // tokens that the decoder's files know

inline const char* const kTinyLlama = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
  "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 2, "vocab_size": 11, "max_position_embeddings": 64,
  "rms_norm_eps": 1e-05, "rope_theta": 5000.0, "rope_scaling": null,
  "tie_word_embeddings": false, "torch_dtype": "float16", "initializer_range": 0.3,
  "bos_token_id": 1, "eos_token_id": 2})";

inline const char* const kTinyClip = R"({
  "model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 24,
  "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 8, "patch_size": 4,
  "hidden_act": "gelu", "layer_norm_eps": 1e-06, "num_channels": 3})";

// Its images leave a margin of one pixel.
inline const char* const kTinySiglip = R"({
  "architectures": ["SiglipModel"], "model_type": "siglip", "text_config": {"hidden_size": 5},
  "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 16,
    "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 9,
    "patch_size": 4, "vision_use_head": true, "torch_dtype": "bfloat16"}})";

// As of a whole Qwen-VL, which has its vision encoder's sizes in words of its own.
inline const char* const kTinyQwenVl = R"({
  "architectures": ["QWenLMHeadModel"], "model_type": "qwen", "hidden_size": 7,
  "visual": {"heads": 2, "image_size": 16, "image_start_id": 9, "layers": 2, "mlp_ratio": 1.6,
    "output_dim": 128, "patch_size": 4, "width": 16}})";

inline std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

// Weights of std 0.3, so that every layer counts.
inline void fill_randomly(Param& param, uint64_t seed) {
  RandomStream stream(seed, "test", hash_name(param.name));
  float* value = param.value.f32();
  for (int64_t i = 0; i < param.numel(); ++i) value[i] = static_cast<float>(0.3 * stream.normal());
}

inline std::vector<float> values_of(const Param& param) {
  return std::vector<float>(param.value.f32(), param.value.f32() + param.numel());
}

inline TensorToWrite to_write(std::string name, std::vector<int64_t> shape,
                              std::vector<float> data) {
  return {std::move(name), std::move(shape),
          [data = std::move(data)](int64_t begin, int64_t count, float* out) {
            std::copy_n(data.begin() + begin, count, out);
          }};
}

// The tensors of a model under a prefix, changeable before they are written.
using Tensors = std::map<std::string, std::pair<std::vector<int64_t>, std::vector<float>>>;

inline Tensors tensors_under(const ParamTable& table, const std::string& prefix) {
  Tensors tensors;
  for (const Param& param : table.params())
    if (param.name.starts_with(prefix) && param.role != ParamRole::kLora)
      tensors[param.name.substr(prefix.size())] = {param.shape, values_of(param)};
  return tensors;
}

inline void write_tensors(const std::string& path, const Tensors& tensors) {
  std::vector<TensorToWrite> list;
  for (const auto& [name, tensor] : tensors)
    list.push_back(to_write(name, tensor.first, tensor.second));
  make_directories(std::filesystem::path(path).parent_path().string());
  write_safetensors(path, std::move(list));
}

inline Tensors read_tensors(const std::string& path) {
  const SafetensorsFile file(path);
  Tensors tensors;
  for (const auto& [name, stored] : file.tensors()) {
    std::vector<float> data(static_cast<size_t>(stored.numel()));
    file.read_f32(name, 0, stored.numel(), data.data());
    tensors[name] = {stored.shape, std::move(data)};
  }
  return tensors;
}

}  // namespace facet
