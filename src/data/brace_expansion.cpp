#include "data/brace_expansion.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/check.h"

namespace facet {

namespace {

constexpr size_t kMaxFiles = 100000;

std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

[[noreturn]] void refuse(const std::string& pattern, std::string_view why) {
  fail(ExitCode::kUsage, "{}: {}; expected {{FIRST..LAST}} or {{A,B,...}}", pattern, why);
}

// "000..127"; nothing if it is no range.
std::vector<std::string> range(const std::string& pattern, std::string_view words) {
  const size_t dots = words.find("..");
  if (dots == words.npos) return {};
  const auto first = number(words.substr(0, dots)), last = number(words.substr(dots + 2));
  if (!first || !last || *first > *last) refuse(pattern, "a range that is none");
  if (static_cast<size_t>(*last - *first) >= kMaxFiles) refuse(pattern, "too many files");
  std::vector<std::string> list;
  for (int64_t i = *first; i <= *last; ++i) list.push_back(fmt::format("{:0{}}", i, dots));
  return list;
}

std::vector<std::string> alternatives(const std::string& pattern, std::string_view words) {
  std::vector<std::string> list = range(pattern, words);
  if (!list.empty()) return list;
  if (words.find(',') == words.npos) refuse(pattern, "braces without a range or list");
  for (size_t begin = 0; begin <= words.size();) {
    const size_t end = std::min(words.find(',', begin), words.size());
    list.emplace_back(words.substr(begin, end - begin));
    begin = end + 1;
  }
  return list;
}

}  // namespace

std::vector<std::string> expand_braces(const std::string& pattern) {
  std::vector<std::string> files = {""};
  std::string_view rest = pattern;
  while (!rest.empty()) {
    const size_t open = std::min(rest.find('{'), rest.size());
    const std::string_view plain = rest.substr(0, open);
    if (plain.find('}') != plain.npos) refuse(pattern, "braces that do not match");
    for (std::string& file : files) file += plain;
    if (open == rest.size()) break;
    const size_t close = rest.find('}', open);
    if (close == rest.npos) refuse(pattern, "braces that do not match");
    const auto words = alternatives(pattern, rest.substr(open + 1, close - open - 1));
    if (files.size() * words.size() > kMaxFiles) refuse(pattern, "too many files");
    std::vector<std::string> longer;
    for (const std::string& file : files)
      for (const std::string& word : words) longer.push_back(file + word);
    files = std::move(longer);
    rest.remove_prefix(close + 1);
  }
  return files;
}

std::string without_braces(const std::string& pattern) {
  std::string text = pattern;
  for (size_t open = text.find('{'); open != text.npos; open = text.find('{')) {
    const size_t close = text.find('}', open);
    text.erase(open, close == text.npos ? text.npos : close - open + 1);
  }
  return text;
}

}  // namespace facet
