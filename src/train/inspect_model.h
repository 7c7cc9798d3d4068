// `facet inspect DIR` of a directory with a language model.
#pragma once

#include <string>
#include <vector>

#include "model/config.h"

namespace facet {

// The lines about a decoder's configuration and tokenizer; adds to `missing`.
void print_decoder(const std::string& directory, const LlamaConfig& config,
                   std::vector<std::string>& missing);

// Whether it is such a directory rather than one of checkpoints.
bool is_model_directory(const std::string& path);

// Prints the family, what its configuration says, and which files and tensors are missing. Returns
// the exit code: kMissingInput if anything that training reads is.
int inspect_model(const std::string& directory);

}  // namespace facet
