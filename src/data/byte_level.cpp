#include "data/byte_level.h"

#include <array>
#include <cstdint>

#include "base/utf8.h"

namespace facet {

namespace {

constexpr uint32_t kCodes = 256 + 68;  // 68 bytes don't stand for themselves

constexpr bool stands_for_itself(uint32_t byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<uint32_t, 256> code_of_byte{};
  std::array<int16_t, kCodes> byte_of_code{};  // -1: none
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  for (int16_t& byte : alphabet.byte_of_code) byte = -1;
  uint32_t next = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const uint32_t code = stands_for_itself(byte) ? byte : next++;
    alphabet.code_of_byte[byte] = code;
    alphabet.byte_of_code[code] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

std::string byte_level_text(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() + bytes.size() / 4);
  for (const char byte : bytes)
    append_utf8(text, kAlphabet.code_of_byte[static_cast<unsigned char>(byte)]);
  return text;
}

std::optional<std::string> byte_level_bytes(std::string_view text) {
  std::string bytes;
  while (!text.empty()) {
    const auto [code, length] = utf8_character(text);
    if (length == 0 || code >= kCodes || kAlphabet.byte_of_code[code] < 0) return std::nullopt;
    bytes += static_cast<char>(kAlphabet.byte_of_code[code]);
    text.remove_prefix(length);
  }
  return bytes;
}

}  // namespace facet
