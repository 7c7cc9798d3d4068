// How far apart two words are, for "did you mean".
#pragma once

#include <cstddef>
#include <string_view>

namespace facet {

// Letters to change, add or remove to make one word of the other.
size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace facet
