// A file where a directory was asked for.
#pragma once

#include <string>

namespace facet {

// Error(kMissingInput) if it is there and no directory: what it is, and what to give in its place,
// "FILE: a PNG image, not the directory of a model, an adapter, a checkpoint or a run; is it the
// right file?".
void refuse_file(const std::string& path);
bool is_file(const std::string& path);  // there, and no directory

// Whether the directory that the file lies in is one of these, by the names in it.
bool lies_in_model(const std::string& path);

}  // namespace facet
