#include "chat/answer_stream.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"

namespace facet {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

void drop_half_characters(std::string_view& text) {
  while (text.ends_with(kReplacement)) text.remove_suffix(kReplacement.size());
  constexpr size_t kLongest = 4;
  for (size_t bytes = std::min(kLongest, text.size()); bytes > 0; --bytes) {
    const std::string_view end = text.substr(text.size() - bytes);
    const bool begins = (static_cast<unsigned char>(end[0]) & 0xC0) == 0xC0;
    if (begins && utf8_length(end) == 0) return text.remove_suffix(bytes);
  }
}

void drop_begun_stop_string(std::string_view& text, std::span<const std::string> stop_strings) {
  size_t longest = 0;
  for (const std::string& stop : stop_strings)
    for (size_t bytes = std::min(stop.size() - 1, text.size()); bytes > longest; --bytes)
      if (text.ends_with(std::string_view(stop).substr(0, bytes))) longest = bytes;
  text.remove_suffix(longest);
}

}  // namespace

size_t settled_length(std::string_view text, std::span<const std::string> stop_strings) {
  drop_half_characters(text);
  drop_begun_stop_string(text, stop_strings);
  return text.find_last_not_of(" \t\r\n") + 1;  // npos + 1 is 0
}

std::string AnswerStream::grown(std::span<const int32_t> ids) {
  const std::string text = pieces_.text_of(ids);
  const size_t settled = settled_length(text, pieces_.rules().stop_strings);
  if (settled <= told_) return "";
  const size_t before = std::exchange(told_, settled);
  return text.substr(before, settled - before);
}

}  // namespace facet
