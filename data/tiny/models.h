// Model directories with small random weights, ready to be trained from scratch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace facet::tiny {

// DIRECTORY/{config.json,preprocessor_config.json,model.safetensors}: a CLIPVisionModel.
void write_clip(const std::string& directory, uint64_t seed);
// The same of a SiglipVisionModel, of whose pooling head there is one tensor.
void write_siglip(const std::string& directory, uint64_t seed);
// DIRECTORY/{config.json,model.safetensors} as of a whole Qwen-VL, with nothing of its language
// model but a tensor.
void write_qwen_vl(const std::string& directory, uint64_t seed);

// LLaMA-2; LLaMA-3: scaled positions, a tied head, two end tokens; Mistral: a window of 24; Qwen2:
// biases, a tied head, a window of 24 in the upper two of its three layers.
enum class Decoder : uint8_t { kLlama2, kLlama3, kMistral, kQwen2 };
// By its name, as "llama2". kUsage.
Decoder decoder_named(const std::string& name);

// DIRECTORY/{config.json,model.safetensors,tokenizer.model}: a decoder with a SentencePiece
// tokenizer trained on the sentences.
void write_lm(const std::string& directory, const std::vector<std::string>& sentences,
              uint64_t seed, Decoder decoder = Decoder::kLlama2);

}  // namespace facet::tiny
