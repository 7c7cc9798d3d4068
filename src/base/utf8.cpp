#include "base/utf8.h"

#include <cstdint>

namespace facet {
namespace {

struct Lead {
  int continuation = -1;  // bytes that follow; -1: no character begins with this byte
  uint32_t smallest = 0;  // smallest code point of that length
  uint32_t bits = 0;
};

Lead lead_of(uint8_t byte) {
  if (byte < 0x80) return {0, 0, byte};
  if (byte < 0xC0) return {};
  if (byte < 0xE0) return {1, 0x80, byte & 0x1Fu};
  if (byte < 0xF0) return {2, 0x800, byte & 0x0Fu};
  if (byte < 0xF8) return {3, 0x10000, byte & 0x07u};
  return {};
}

}  // namespace

Utf8Character utf8_character(std::string_view text) {
  if (text.empty()) return {};
  const Lead lead = lead_of(static_cast<uint8_t>(text[0]));
  const auto length = static_cast<size_t>(1 + lead.continuation);
  if (length > text.size()) return {};
  uint32_t code = lead.bits;
  for (size_t i = 1; i < length; ++i) {
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    if ((byte & 0xC0) != 0x80) return {};
    code = code << 6 | (byte & 0x3Fu);
  }
  if (code < lead.smallest || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return {};
  return {code, length};
}

size_t utf8_length(std::string_view text) { return utf8_character(text).length; }

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

void append_utf8(std::string& out, uint32_t code) {
  const auto continued = [&](int shift) {
    out += static_cast<char>(0x80 | ((code >> shift) & 0x3F));
  };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    continued(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    continued(6);
    continued(0);
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    continued(12);
    continued(6);
    continued(0);
  }
}

}  // namespace facet
