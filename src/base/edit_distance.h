// Edit distance of two words, for "did you mean".
#pragma once

#include <cstddef>
#include <string_view>

namespace facet {

// The number of letters to change, insert or delete to turn one word into the other. Of longer
// words only the first 100 letters are compared, and the rest is inserted or deleted: the cost is
// bounded.
size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace facet
