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

// DIRECTORY/{config.json,model.safetensors,tokenizer.model}: a LlamaForCausalLM with a
// SentencePiece tokenizer trained on the sentences.
void write_lm(const std::string& directory, const std::vector<std::string>& sentences,
              uint64_t seed);

}  // namespace facet::tiny
