#include "base/printable.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/utf8.h"

namespace facet {

namespace {

struct Range {
  uint32_t first, last;
};
constexpr std::array<Range, 8> kUnprintable = {{{0x00, 0x1F},
                                                {0x7F, 0x9F},
                                                {0x61C, 0x61C},
                                                {0x200E, 0x200F},
                                                {0x2028, 0x202E},
                                                {0x2066, 0x2069},
                                                {0xFEFF, 0xFEFF},
                                                {0xFFF9, 0xFFFB}}};

// Of a character that is not printable. `code` is a byte's value where it is no UTF-8.
std::string escape(uint32_t code) {
  switch (code) {
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    default: break;
  }
  return code <= 0xFF ? fmt::format("\\x{:02x}", code) : fmt::format("\\u{{{:x}}}", code);
}

// Appends the text's first character and takes it off the text.
void move_character(std::string_view& text, std::string& shown) {
  const Utf8Character first = utf8_character(text);
  if (first.length == 0)
    shown += escape(static_cast<uint8_t>(text[0]));
  else if (!is_printable(first.code))
    shown += escape(first.code);
  else
    shown += text.substr(0, first.length);
  text.remove_prefix(std::max<size_t>(first.length, 1));
}

}  // namespace

bool is_printable(uint32_t code) {
  return std::none_of(kUnprintable.begin(), kUnprintable.end(), [code](const Range& range) {
    return code >= range.first && code <= range.last;
  });
}

std::string printable(std::string_view text) {
  std::string shown;
  while (!text.empty()) move_character(text, shown);
  return shown;
}

std::string printable_message(std::string_view text) {
  constexpr std::string_view kOwnBreak = "\n  ";
  std::string shown;
  while (!text.empty()) {
    if (text.starts_with(kOwnBreak)) {
      shown += kOwnBreak;
      text.remove_prefix(kOwnBreak.size());
    } else {
      move_character(text, shown);
    }
  }
  return shown;
}

}  // namespace facet
