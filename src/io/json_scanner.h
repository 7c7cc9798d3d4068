// The words of a JSON text: strings, numbers and names, as Python's json reads them. That is RFC
// 8259 with NaN, Infinity and -Infinity, numbers of any size, \u escapes of half a surrogate pair,
// and a byte order mark before the text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace facet::detail {

// Thrown where the text is not JSON; `position` in bytes from its begin.
struct JsonSyntaxError {
  size_t position;
  std::string reason;
};

struct JsonNumber {
  bool is_integer = false;  // without fraction and exponent, and fits 64 bits
  int64_t integer = 0;
  double real = 0;  // otherwise; infinite beyond the range of a double
};

class JsonScanner {
 public:
  explicit JsonScanner(std::string_view text);

  size_t position() const { return at_; }
  void skip_spaces();
  bool at_end() const { return at_ == text_.size(); }
  // The next character, which is not taken; '\0' at the end of the text.
  char peek() const { return at(at_); }
  // Takes the next character if it is this one.
  bool take(char c);
  [[noreturn]] void fail_expecting(const char* what) const;

  // Appends the content of the string that begins here, in UTF-8. Half a surrogate pair becomes
  // the three bytes of its code point, which are not UTF-8: whoever uses the text finds out.
  void take_string(std::string& out);
  JsonNumber take_number();  // also NaN, Infinity, -Infinity
  void take_word(std::string_view word);

 private:
  void take_escape(std::string& out);
  void take_code_point(std::string& out);
  uint32_t hex_at(size_t position) const;
  void skip_digits();
  char at(size_t position) const { return position < text_.size() ? text_[position] : '\0'; }

  std::string_view text_;
  size_t at_ = 0;
};

// Bytes that are not printable ASCII are shown as <XX>.
std::string printable(std::string_view bytes);

}  // namespace facet::detail
