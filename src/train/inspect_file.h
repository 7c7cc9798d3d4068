// `facet inspect FILE` of a single file.
#pragma once

#include <string>

namespace facet {

// Prints the tensors of a safetensors or PyTorch file, and what the file says of itself. Any other
// file is kMissingInput with what it is and what to give instead (file_for_directory.h). Returns
// the exit code.
int inspect_file(const std::string& path);

}  // namespace facet
