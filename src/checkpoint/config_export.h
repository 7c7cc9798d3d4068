// The configuration files of an export: those of its sources with what has changed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/hugging_face.h"
#include "io/safetensors.h"
#include "model/config.h"

namespace facet {

// The type that most elements have, as PyTorch names it.
std::string main_type(const std::vector<TensorToWrite>& tensors);

// config.json of a decoder or a vision encoder alone, whatever the source's directory holds.
void write_decoder_config(const std::string& source_directory, const std::string& path,
                          const LlamaConfig& config, const std::string& type);
void write_vision_config(const std::string& source_directory, const std::string& path,
                         const VisionTraits& traits, const std::string& type);

// preprocessor_config.json where the source has one. `pads`: so that images become squares first,
// with which it is LlavaImageProcessor's.
void write_preprocessor_config(const std::string& source_directory, const std::string& path,
                               bool pads);

// Whether the model is one that LlavaForConditionalGeneration (LLaVA 1.5) computes.
bool exports_llava(const VlmConfig& config, const ExportSources& sources);
// DIRECTORY/{config.json,processor_config.json} of such a model.
void write_llava_configs(const std::string& directory, const VlmConfig& config,
                         const ExportSources& sources, const std::string& type);

}  // namespace facet
