// `facet inspect DIR` of a directory with a whole LLaVA model.
#pragma once

#include <string>

namespace facet {

// Prints what the decoder, the vision encoder and the projection are, and which files and tensors
// are missing. Returns the exit code: kMissingInput if anything that training reads is.
int inspect_llava(const std::string& directory);

}  // namespace facet
