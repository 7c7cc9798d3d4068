// UTF-8.
#pragma once

#include <cstddef>
#include <string_view>

namespace facet {

// Length in bytes of the text's first character; 0 if the text does not begin with a valid one.
size_t utf8_length(std::string_view text);

// Whether the text is well-formed UTF-8 (no overlong forms, no surrogates, nothing above U+10FFFF).
bool is_utf8(std::string_view text);

}  // namespace facet
