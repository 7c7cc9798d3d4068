// Modules of the decoder that are trained whole beside LoRA: PEFT's modules_to_save.
#pragma once

#include "model/config.h"
#include "nn/param_table.h"

namespace facet {

// Sets Param::saved_as of the parameters in modules whose paths end with one of
// config.saved_modules: to their names in Transformers' class of the decoder. What is the table of
// tokens there is lang_embed here, as in an export. A tied head is one of its own then, as PEFT
// copies a module without what it was tied to.
void mark_saved_modules(ParamTable& table, const VlmConfig& config);

}  // namespace facet
