// Why tensors may be missing from a model's files, for the message about it.
#pragma once

#include <string>
#include <vector>

namespace facet {

// One sentence, or "" if nothing is recognised. `missing`: names that the model needs, at least
// one; `others`: names in the files that it does not need; `directory`: where the files lie.
std::string why_missing(const std::vector<std::string>& missing,
                        const std::vector<std::string>& others, const std::string& directory);

}  // namespace facet
