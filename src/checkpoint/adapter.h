// Adapters as PEFT keeps them: the matrices of LoRA without the model that they belong to.
//
// An adapter directory of this program is
//   DIR/lang_decoder/   adapter_config.json, adapter_model.safetensors, tokenizer
//                                               -> PeftModel of a LlamaForCausalLM
//   DIR/vis_encoder/    the same of the vision encoder, where that has LoRA -> of a CLIPVisionModel
//   DIR/projection.safetensors                  projection.* and lang_embed.weight; in its
//                                               metadata the choices of model_choices.h
//   DIR/other_weights.safetensors               whatever else was trained, under its full name,
//                                               and rows of the head that the model's files lack;
//                                               absent where there is nothing
// PEFT's own directories have the files of the decoder at their top, and no more.
//
// PEFT's A (r, inputs) is R' and its B (outputs, r) is L' of nn/linear.h; its scale is alpha / r,
// or alpha / sqrt(r) with use_rslora. With use_dora there are lora_magnitude_vector (outputs) too.
// The tensors of modules_to_save are those of the model, which they replace.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nn/linear.h"
#include "nn/param_table.h"

namespace facet {

// The LoRA of one part of the model.
struct AdapterPart {
  std::string directory;
  std::string weights;     // adapter_model.safetensors or .bin
  std::string base_model;  // that it was trained on, as its configuration names it; may be ""
  LoraConfig lora;         // modules as in the weights
  std::vector<std::string> saved_modules;  // modules_to_save: how their paths end
};

struct Adapter {
  std::string directory;
  std::optional<AdapterPart> lang, vision;
  std::string projection_file, other_file;  // "": none
};

// Whether this directory, or its part of the decoder or of the vision encoder, is an adapter; or
// holds a projection without a model beside it, which is what an adapter without LoRA comes to.
bool is_adapter(const std::string& directory);

// Configurations and names of the matrices. kMissingInput; kConfig for what PEFT can do and this
// program cannot, by its name.
Adapter read_adapter(const std::string& directory);

// The name in PEFT's file of a LoRA parameter "lang_decoder.PATH.lora_right_weight", or of one that
// has Param::saved_as.
std::string adapter_key(const Param& param);

// adapter_config.json of the LoRA of the parameters with this prefix, "lang_decoder." or
// "vis_encoder.".
std::string adapter_config_text(const ParamTable& table, std::string_view prefix,
                                const LoraConfig& lora,
                                const std::vector<std::string>& saved_modules,
                                const std::string& base_model);

// What follows a parameter's name in other_weights.safetensors where the tensor is not the
// parameter but its last rows: those of added tokens, which are in no file of the model.
constexpr std::string_view kAddedRows = ".added_rows";

}  // namespace facet
