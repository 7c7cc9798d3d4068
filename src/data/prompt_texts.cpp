#include "data/prompt_texts.h"

#include <algorithm>

#include "base/check.h"
#include "base/utf8.h"
#include "io/file.h"

namespace facet {
namespace {

constexpr int64_t kMaxTextBytes = int64_t{1} << 20;
constexpr std::string_view kBlank = " \t\r\n";

std::string_view trim_right(std::string_view text) {
  return text.substr(0, text.find_last_not_of(kBlank) + 1);
}

std::string load_text(const std::string& path, std::string_view built_in) {
  const std::string text = path.empty() ? std::string(built_in) : read_file(path, kMaxTextBytes);
  CHECK(is_utf8(text), ExitCode::kBadData, "{}: not valid UTF-8", path);
  return text;
}

std::vector<std::string> load_lines(const std::string& path, std::string_view built_in) {
  const std::string text = load_text(path, built_in);
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = trim_right(std::string_view(text).substr(begin, end - begin));
    if (!line.empty()) lines.emplace_back(line);
    begin = end + 1;
  }
  CHECK(!lines.empty(), ExitCode::kBadData, "{}: the file has no line with a text", path);
  return lines;
}

}  // namespace

std::string system_text_of(std::string_view text) {
  const std::string_view sentence = trim_right(text);
  return sentence.empty() ? std::string() : std::string(sentence) + "\n\n";
}

std::string load_system_text(const std::string& path) {
  return system_text_of(load_text(path, kDefaultSystemText));
}

std::vector<std::string> load_caption_questions(const std::string& path) {
  return load_lines(path, kDefaultCaptionQuestions);
}

std::vector<std::string> load_why_phrases(const std::string& path) {
  return load_lines(path, kDefaultWhyPhrases);
}

}  // namespace facet
