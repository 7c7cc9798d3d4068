#include "io/json_scanner.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <limits>

#include "base/utf8.h"

namespace facet::detail {

namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool ends_plain_text(char c) {
  return c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20;
}

// Digits with fraction or exponent, or an integer beyond 64 bits.
double real_of(std::string_view digits) {
  double real = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), real);
  // Out of range it does not say on which side; strtod does, and reads '.' in the C locale.
  return error == std::errc() ? real : std::strtod(std::string(digits).c_str(), nullptr);
}

}  // namespace

std::string printable(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      out += fmt::format("<{:02X}>", byte);
    }
  }
  return out;
}

JsonScanner::JsonScanner(std::string_view text) : text_(text) {
  if (text_.starts_with(kByteOrderMark)) at_ = kByteOrderMark.size();
}

void JsonScanner::skip_spaces() {
  while (at_ < text_.size() &&
         (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t'))
    ++at_;
}

bool JsonScanner::take(char c) {
  if (at_end() || text_[at_] != c) return false;
  ++at_;
  return true;
}

void JsonScanner::fail_expecting(const char* what) const {
  const std::string found = at_end() ? "the end of the text" : printable(text_.substr(at_, 1));
  throw JsonSyntaxError{at_, fmt::format("expected {}, found {}", what, found)};
}

void JsonScanner::take_string(std::string& out) {
  const size_t begin = at_;
  if (!take('"')) fail_expecting("a string");
  for (;;) {
    const size_t plain = at_;
    while (at_ < text_.size() && !ends_plain_text(text_[at_])) ++at_;
    out.append(text_.substr(plain, at_ - plain));
    if (at_end()) throw JsonSyntaxError{begin, "this string does not end"};
    if (take('"')) return;
    if (peek() != '\\')
      throw JsonSyntaxError{at_, fmt::format("a string holds the control character {}; write it as "
                                             "an escape",
                                             printable(text_.substr(at_, 1)))};
    take_escape(out);
  }
}

void JsonScanner::take_escape(std::string& out) {
  constexpr std::string_view kEscapes = "\"\\/bfnrt";
  constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
  const char kind = at(at_ + 1);
  if (kind == 'u') return take_code_point(out);
  const size_t which = kEscapes.find(kind);
  if (which == kEscapes.npos) throw JsonSyntaxError{at_, "no escape is written so"};
  out += kMeanings[which];
  at_ += 2;
}

void JsonScanner::take_code_point(std::string& out) {
  uint32_t code = hex_at(at_ + 2);
  at_ += 6;
  if (code >= 0xD800 && code < 0xDC00 && text_.substr(at_).starts_with("\\u")) {
    const uint32_t low = hex_at(at_ + 2);
    if (low >= 0xDC00 && low < 0xE000) {
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
      at_ += 6;
    }
  }
  append_utf8(out, code);
}

uint32_t JsonScanner::hex_at(size_t position) const {
  const std::string_view digits = text_.substr(std::min(position, text_.size()), 4);
  uint32_t code = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
  if (error != std::errc() || digits.size() != 4 || end != digits.data() + 4)
    throw JsonSyntaxError{position, "\\u needs four hexadecimal digits"};
  return code;
}

void JsonScanner::skip_digits() {
  if (!is_digit(peek())) fail_expecting("a digit");
  while (is_digit(peek())) ++at_;
}

JsonNumber JsonScanner::take_number() {
  const size_t begin = at_;
  JsonNumber number;
  number.is_integer = true;
  const bool negative = take('-');
  if (peek() == 'N' || peek() == 'I') {
    const bool nan = peek() == 'N' && !negative;
    take_word(nan ? "NaN" : "Infinity");
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    const double size = nan ? std::numeric_limits<double>::quiet_NaN() : kInfinity;
    return {false, 0, negative ? -size : size};
  }
  if (!take('0')) skip_digits();
  if (peek() == '.' || peek() == 'e' || peek() == 'E') number.is_integer = false;
  if (take('.')) skip_digits();
  if (take('e') || take('E')) {
    if (!take('-')) take('+');
    skip_digits();
  }
  const std::string_view digits = text_.substr(begin, at_ - begin);
  if (number.is_integer) {
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), number.integer);
    number.is_integer = error == std::errc();
  }
  if (!number.is_integer) number.real = real_of(digits);
  return number;
}

void JsonScanner::take_word(std::string_view word) {
  for (const char c : word)
    if (!take(c)) fail_expecting(std::string(word).c_str());
}

}  // namespace facet::detail
