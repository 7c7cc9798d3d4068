// Lists of files as bash and WebDataset write them: shard-{000..127}.tar, {train,val}-{0..9}.tar.
#pragma once

#include <string>
#include <vector>

namespace facet {

// In order, the last brace fastest. Numbers keep the width of the first one. Braces that do not
// match or hold neither a range of whole numbers nor a list, and more than 100000 files, are
// Error(kUsage).
std::vector<std::string> expand_braces(const std::string& pattern);

// The pattern without its braces and what is in them.
std::string without_braces(const std::string& pattern);

}  // namespace facet
