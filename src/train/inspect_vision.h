// `facet inspect DIR` of a directory with a vision encoder.
#pragma once

#include <string>
#include <vector>

#include "model/config.h"

namespace facet {

// The lines about a vision encoder's configuration and pixels; adds to `missing`.
void print_encoder(const std::string& directory, const VisionConfig& config,
                   std::vector<std::string>& missing);

// Whether config.json there is that of a vision encoder, or of a whole model with one.
bool is_vision_directory(const std::string& path);

// Prints the family, what its files say, and which tensors are missing. Returns the exit code:
// kMissingInput if anything that training reads is.
int inspect_vision(const std::string& directory);

}  // namespace facet
