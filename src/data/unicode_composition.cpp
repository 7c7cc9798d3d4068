#include "data/unicode_composition.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"

namespace facet {

namespace {

using Codes = std::vector<utf8proc_int32_t>;

constexpr auto kOptions = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);

// A mark's class decides its place among the marks of a letter; 0: not a mark.
int class_of(utf8proc_int32_t code) { return utf8proc_get_property(code)->combining_class; }

Codes decomposed(std::string_view text) {
  Codes codes;
  codes.reserve(text.size());
  while (!text.empty()) {
    const auto [code, length] = utf8_character(text);
    ASSERT(length > 0, "a text that is no UTF-8");
    std::array<utf8proc_int32_t, 16> parts{};  // no character has more than four
    const utf8proc_ssize_t count = utf8proc_decompose_char(
        static_cast<utf8proc_int32_t>(code), parts.data(), std::ssize(parts), kOptions, nullptr);
    ASSERT(count >= 0 && count <= std::ssize(parts), "{} parts of U+{:04X}", count, code);
    codes.insert(codes.end(), parts.begin(), parts.begin() + count);
    text.remove_prefix(length);
  }
  return codes;
}

// utf8proc_map() does this by exchanging neighbours, which takes hours for a million marks.
void sort_marks(Codes& codes) {
  const auto is_mark = [](utf8proc_int32_t code) { return class_of(code) > 0; };
  const auto before = [](auto a, auto b) { return class_of(a) < class_of(b); };
  for (auto begin = codes.begin(); begin != codes.end();) {
    begin = std::find_if(begin, codes.end(), is_mark);
    const auto end = std::find_if_not(begin, codes.end(), is_mark);
    std::stable_sort(begin, end, before);
    begin = end;
  }
}

}  // namespace

std::string composed(std::string_view text) {
  Codes codes = decomposed(text);
  sort_marks(codes);
  const utf8proc_ssize_t count =
      utf8proc_normalize_utf32(codes.data(), std::ssize(codes), kOptions);
  ASSERT(count >= 0, "{}", utf8proc_errmsg(count));
  codes.resize(static_cast<size_t>(count));
  std::string result;
  result.reserve(text.size());
  for (const utf8proc_int32_t code : codes) append_utf8(result, static_cast<uint32_t>(code));
  return result;
}

}  // namespace facet
