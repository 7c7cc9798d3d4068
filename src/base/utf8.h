// UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace facet {

// The text's first character; its length in bytes is 0 if the text does not begin with a valid one.
struct Utf8Character {
  uint32_t code = 0;
  size_t length = 0;
};
Utf8Character utf8_character(std::string_view text);
// That length.
size_t utf8_length(std::string_view text);

// Appends the character with this code; half a surrogate pair becomes three bytes that are no
// UTF-8.
void append_utf8(std::string& out, uint32_t code);

// Whether the text is well-formed UTF-8 (no overlong forms, no surrogates, nothing above U+10FFFF).
bool is_utf8(std::string_view text);

}  // namespace facet
