#include <algorithm>
#include <cmath>

#include "base/printable.h"
#include "base/utf8.h"
#include "io/json.h"

namespace facet {

namespace {

// Of a character that can't stand in a string.
std::string escape(uint32_t code) {
  switch (code) {
    case '"': return "\\\"";
    case '\\': return "\\\\";
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    default: return fmt::format("\\u{:04x}", code);
  }
}

// Half a surrogate pair, as the parser stores it: ED, then A0 to BF, then 80 to BF.
bool is_half_pair(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  return text.size() >= 3 && byte(0) == 0xed && byte(1) >= 0xa0 && byte(1) < 0xc0 &&
         (byte(2) & 0xc0) == 0x80;
}

uint32_t half_pair(std::string_view text) {
  return 0xd000U | (static_cast<uint32_t>(text[1]) & 0x3fU) << 6 |
         (static_cast<uint32_t>(text[2]) & 0x3fU);
}

}  // namespace

std::string json_string(std::string_view text) {
  std::string quoted = "\"";
  while (!text.empty()) {
    if (is_half_pair(text)) {
      quoted += escape(half_pair(text));
      text.remove_prefix(3);
      continue;
    }
    const Utf8Character first = utf8_character(text);
    const uint32_t code = first.length > 0 ? first.code : static_cast<uint8_t>(text[0]);
    const bool stays = first.length > 0 && is_printable(code) && code != '"' && code != '\\';
    quoted += stays ? std::string(text.substr(0, first.length)) : escape(code);
    text.remove_prefix(std::max<size_t>(first.length, 1));
  }
  return quoted + '"';
}

void JsonWriter::new_line() {
  if (layout_ == JsonLayout::kIndented) text_ += '\n' + std::string(2 * open_.size(), ' ');
}

void JsonWriter::next_element() {
  if (!first_) text_ += layout_ == JsonLayout::kOneLine ? ", " : ",";
  new_line();
  first_ = false;
}

void JsonWriter::separate() {
  if (after_key_) {
    after_key_ = false;
    return;
  }
  ASSERT(text_.empty() || !open_.empty(), "a second value at the top of a JSON text");
  ASSERT(open_.empty() || open_.back() == ']', "a value without a key in an object");
  if (!open_.empty()) next_element();
}

void JsonWriter::open(char bracket) {
  separate();
  text_ += bracket;
  open_.push_back(bracket == '{' ? '}' : ']');
  first_ = true;
}

void JsonWriter::close(char bracket) {
  ASSERT(!open_.empty() && open_.back() == bracket && !after_key_, "'{}' closes nothing", bracket);
  open_.pop_back();
  if (!first_) new_line();
  text_ += bracket;
  first_ = false;
}

void JsonWriter::begin_object() { open('{'); }
void JsonWriter::end_object() { close('}'); }
void JsonWriter::begin_array() { open('['); }
void JsonWriter::end_array() { close(']'); }

JsonWriter& JsonWriter::key(std::string_view name) {
  ASSERT(!open_.empty() && open_.back() == '}' && !after_key_, "the key {} is not in an object",
         name);
  next_element();
  text_ += json_string(name) + ": ";
  after_key_ = true;
  return *this;
}

void JsonWriter::value(std::string_view text) {
  separate();
  text_ += json_string(text);
}

void JsonWriter::value(int64_t number) {
  separate();
  text_ += fmt::format("{}", number);
}

void JsonWriter::value(double number) {
  ASSERT(std::isfinite(number), "{} cannot be written as JSON", number);
  separate();
  std::string digits = fmt::format("{}", number);
  // Without this an integral double would be read back as an integer.
  if (digits.find_first_of(".e") == std::string::npos) digits += ".0";
  text_ += digits;
}

// What is no number or infinite is written as Python's json writes it.
void JsonWriter::copy_real(double number) {
  if (std::isfinite(number)) return value(number);
  separate();
  text_ += std::isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity";
}

void JsonWriter::value(bool flag) {
  separate();
  text_ += flag ? "true" : "false";
}

void JsonWriter::null() {
  separate();
  text_ += "null";
}

void JsonWriter::value(const JsonValue& copied) {
  switch (copied.kind()) {
    case JsonKind::kNull: return null();
    case JsonKind::kBool: return value(copied.as_bool());
    case JsonKind::kInteger: return value(copied.as_int());
    case JsonKind::kReal: return copy_real(copied.real_as_written());
    case JsonKind::kString: return value(copied.as_string());
    case JsonKind::kArray:
      begin_array();
      for (const JsonValue element : copied) value(element);
      return end_array();
    case JsonKind::kObject:
      begin_object();
      for (int64_t i = 0; i < copied.size(); ++i) {
        const auto [name, member] = copied.member_as_written(i);
        key(name).value(member);
      }
      return end_object();
  }
}

std::string JsonWriter::take() {
  ASSERT(open_.empty() && !text_.empty(), "the JSON text is not complete");
  std::string text = std::move(text_) + '\n';
  *this = JsonWriter(layout_);
  return text;
}

}  // namespace facet
