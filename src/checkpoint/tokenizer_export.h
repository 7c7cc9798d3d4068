// The tokenizer's files in an export, with the added tokens of the run, so that Transformers and
// this program give the ids that the model was trained with.
#pragma once

#include <string>

#include "checkpoint/hugging_face.h"

namespace facet {

// tokenizer.model, added_tokens.json and tokenizer_config.json, or tokenizer.json and
// tokenizer_config.json; nothing if the sources name no tokenizer. kMissingInput if it is gone.
void write_tokenizer(const std::string& directory, const ExportSources& sources);

// Returns whether there was one.
bool copy_if_there(const std::string& from, const std::string& to);

}  // namespace facet
