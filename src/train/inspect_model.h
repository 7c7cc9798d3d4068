// `facet inspect DIR` of a directory with a language model.
#pragma once

#include <string>

namespace facet {

// Whether it is such a directory rather than one of checkpoints.
bool is_model_directory(const std::string& path);

// Prints the family, what its configuration says, and which files and tensors are missing. Returns
// the exit code: kMissingInput if anything that training reads is.
int inspect_model(const std::string& directory);

}  // namespace facet
