#include "io/base64.h"

#include <array>
#include <cstdint>

#include "base/check.h"
#include "io/json_scanner.h"

namespace facet {

namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr uint8_t kNone = 0xFF;

constexpr std::array<uint8_t, 256> values_of_characters() {
  std::array<uint8_t, 256> values{};
  values.fill(kNone);
  for (size_t i = 0; i < kAlphabet.size(); ++i)
    values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<uint8_t>(i);
  return values;
}
constexpr std::array<uint8_t, 256> kValues = values_of_characters();

[[noreturn]] void refuse_character(std::string_view text, size_t at, const std::string& name) {
  const std::string_view what = text[at] == '=' ? "which ends base64 and may only stand there"
                                : text[at] == '-' || text[at] == '_'
                                    ? "which belongs to base64 for URLs"
                                    : "which is not in base64's alphabet";
  fail(ExitCode::kBadData, "{}: not base64: character {} is '{}', {}", name, at,
       detail::printable(text.substr(at, 1)), what);
}

// How many '=' end the text.
size_t padding_of(std::string_view text) {
  if (text.ends_with("==")) return 2;
  return text.ends_with('=') ? 1 : 0;
}

}  // namespace

std::string decode_base64(std::string_view text, const std::string& name) {
  const std::string_view digits = text.substr(0, text.size() - padding_of(text));
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  uint32_t bits = 0;
  for (size_t i = 0; i < digits.size(); ++i) {
    const uint8_t value = kValues[static_cast<unsigned char>(digits[i])];
    if (value == kNone) refuse_character(digits, i, name);
    bits = bits << 6 | value;
    if (i % 4 > 0) bytes += static_cast<char>(bits >> (6 - 2 * (i % 4)) & 0xFF);
  }
  CHECK(text.size() % 4 == 0 && digits.size() % 4 != 1, ExitCode::kBadData,
        "{}: not base64: {} characters are no multiple of four; is it cut off?", name, text.size());
  return bytes;
}

std::string encode_base64(std::string_view bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; ++k)
      bits = bits << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k)
      text += i + k <= bytes.size() ? kAlphabet[bits >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

}  // namespace facet
