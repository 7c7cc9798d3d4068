// Modules of the decoder that are trained whole beside LoRA: PEFT's modules_to_save.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "nn/param_table.h"

namespace facet {

// Whether a tensor of this name is in a module whose path ends with one of these, as PEFT finds the
// modules that it saves, or in one within.
bool is_in_modules(std::string_view name, const std::vector<std::string>& modules);

// Sets Param::saved_as of the parameters in config.saved_modules (is_in_modules()): to their names
// in Transformers' class of the decoder. What is the table of tokens there is lang_embed here, as
// in an export. A tied head is one of its own then, as PEFT copies a module without what it was
// tied to.
void mark_saved_modules(ParamTable& table, const VlmConfig& config);

}  // namespace facet
