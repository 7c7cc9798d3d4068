// A directory that holds a whole model (LLaVA 1.5) says itself what else has to be said about one.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "options/options.h"

namespace facet {

// If --lm_model_name_or_path is such a directory: options that describe the model and are not in
// `given` are set as it says, the vision encoder's directory among them, and a line of `notes`
// names them. Returns where those that are given say otherwise. kConfig for a directory of a kind
// that is not read.
std::vector<std::string> take_from_whole_model(const std::set<std::string>& given, Options& options,
                                               std::vector<std::string>& notes);

}  // namespace facet
