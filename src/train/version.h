// --version: the program, the compiler and the libraries it runs with.
#pragma once

#include <string>

namespace facet {

std::string version_text();

}  // namespace facet
