// Text of the outside world (names of files, JSON, what a library says) in lines for people:
// nothing in it may begin a line of its own, move a terminal's cursor or turn the direction of
// reading.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace facet {

// Whether a code point can stand in such a line: no control character (C0, DEL, C1), no separator
// of lines or paragraphs, no mark that sets the direction of what follows.
bool is_printable(uint32_t code);

// The text in one line. \n, \r, \t, \xNN (a control character, or a byte that is not UTF-8) and
// \u{N} stand for what can't be shown. A backslash stays one, so that escaping twice does no harm.
std::string printable(std::string_view text);

// The same for a message of this program, which may have several lines: each after the first begins
// with two blanks, and only such line breaks are kept. Text of the outside world can therefore
// begin no line.
std::string printable_message(std::string_view text);

}  // namespace facet
