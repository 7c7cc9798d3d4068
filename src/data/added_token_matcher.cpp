#include "data/added_token_matcher.h"

#include <algorithm>

#include "base/utf8.h"
#include "data/text_pattern.h"

namespace facet {

namespace {

bool begins_with_word(std::string_view text) {
  static const TextPattern word("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]");
  return word.matches_begin(text);
}

bool begins_with_space(std::string_view text) {
  static const TextPattern space("\\s");
  return space.matches_begin(text);
}

// The bytes of the text's last character.
size_t last_length(std::string_view text) {
  size_t length = 1;
  while (length < text.size() && (static_cast<unsigned char>(text[text.size() - length]) >> 6) == 2)
    ++length;
  return length;
}

bool ends_with_word(std::string_view text) {
  return !text.empty() && begins_with_word(text.substr(text.size() - last_length(text)));
}

size_t spaces_at_end(std::string_view text) {
  size_t bytes = 0;
  while (!text.empty()) {
    const size_t length = last_length(text);
    if (!begins_with_space(text.substr(text.size() - length))) break;
    text.remove_suffix(length);
    bytes += length;
  }
  return bytes;
}

size_t spaces_at_begin(std::string_view text) {
  size_t bytes = 0;
  while (begins_with_space(text.substr(bytes))) bytes += utf8_length(text.substr(bytes));
  return bytes;
}

}  // namespace

void AddedTokenMatcher::add(std::string_view spelling, const AddedToken& token) {
  if (!spelling.empty()) by_spelling_.add(spelling, token);
}

std::vector<AddedTokenMatcher::Part> AddedTokenMatcher::split(std::string_view text) const {
  std::vector<Part> parts;
  // Bytes that are in parts. As in the library, a token of white space that another token took
  // along sets this back to its own end, so that what follows it there is text again; and with
  // lstrip, which leaves it nothing, it is no token.
  size_t taken = 0;
  for (size_t at = 0; at < text.size();) {
    const auto [bytes, found] = by_spelling_.longest_at(text.substr(at));
    if (found == nullptr) {
      ++at;
      continue;
    }
    const AddedToken& token = *found;
    size_t begin = at, end = at + bytes;
    at = end;
    if (token.single_word &&
        (ends_with_word(text.substr(0, begin)) || begins_with_word(text.substr(end))))
      continue;
    if (token.lstrip) begin = std::max(begin - spaces_at_end(text.substr(0, begin)), taken);
    if (token.rstrip) end += spaces_at_begin(text.substr(end));
    if (begin > taken) parts.push_back({text.substr(taken, begin - taken), nullptr});
    if (begin < end) parts.push_back({text.substr(begin, end - begin), &token});
    taken = end;
  }
  if (taken < text.size()) parts.push_back({text.substr(taken), nullptr});
  return parts;
}

}  // namespace facet
