#include "data/text_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/core.h>
#include <pcre2.h>

#include <algorithm>
#include <cctype>

#include "base/check.h"

namespace facet {

namespace {

bool is_ascii_letter_or_digit(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

// Rewrites an expression for PCRE2, or says what of it is not known to mean the same there.
class Translation {
 public:
  explicit Translation(std::string_view expression) : rest_(expression) {
    while (!rest_.empty() && !error_) step();
    if (!error_ && in_set_) error_ = "a set that does not end";
  }

  const std::optional<std::string>& error() const { return error_; }
  const std::string& text() const { return text_; }

 private:
  void step();
  void escape();
  void group();
  void open_set();
  void inside_set();

  void take(size_t bytes) {
    text_ += rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
  }
  void refuse(size_t bytes) {
    error_ = fmt::format("`{}` is not supported in a pattern", rest_.substr(0, bytes));
  }

  std::string_view rest_;
  std::string text_;
  std::optional<std::string> error_;
  bool in_set_ = false;
};

void Translation::step() {
  const char c = rest_[0];
  if (c == '\\') return escape();
  if (in_set_) return inside_set();
  if (c == '[') return open_set();
  if (c == '(') return group();
  // Oniguruma takes a + behind {n,m} for a second quantifier, and {,m} for one.
  if (rest_.starts_with("}+") || rest_.starts_with("{,")) return refuse(2);
  if (c == '^' || c == '$') return refuse(1);
  take(1);
}

void Translation::escape() {
  if (rest_.size() < 2) return refuse(1);
  const char c = rest_[1];
  // PCRE2's own \s has U+180E, which is no white space any more.
  if (c == 's' || c == 'S') {
    text_ += c == 's' ? "\\p{White_Space}" : "\\P{White_Space}";
    rest_.remove_prefix(2);
    return;
  }
  if (c == 'p' || c == 'P') {
    const size_t end = rest_.find('}');
    if (!rest_.substr(2).starts_with('{') || end == std::string_view::npos) return refuse(2);
    return take(end + 1);
  }
  const bool known = std::string_view("rntdD").find(c) != std::string_view::npos;
  if (!known && (is_ascii_letter_or_digit(c) || static_cast<unsigned char>(c) >= 0x80))
    return refuse(2);
  take(2);
}

void Translation::group() {
  for (const std::string_view known : {"(?:", "(?i:", "(?=", "(?!"})
    if (rest_.starts_with(known)) return take(known.size());
  const bool capturing = rest_.size() < 2 || (rest_[1] != '?' && rest_[1] != '*');
  if (!capturing) return refuse(std::min<size_t>(rest_.size(), 3));
  take(1);
}

void Translation::open_set() {
  in_set_ = true;
  take(rest_.starts_with("[^") ? 2 : 1);
  if (rest_.starts_with(']')) refuse(1);
}

// Oniguruma knows sets in sets and their intersection.
void Translation::inside_set() {
  if (rest_[0] == '[') return refuse(1);
  if (rest_.starts_with("&&")) return refuse(2);
  if (rest_[0] == ']') in_set_ = false;
  take(1);
}

std::string message_of(int error) {
  unsigned char buffer[256] = {};
  pcre2_get_error_message(error, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
using CodePointer = std::unique_ptr<pcre2_code, FreeCode>;

struct FreeMatch {
  void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
};
using MatchPointer = std::unique_ptr<pcre2_match_data, FreeMatch>;

CodePointer compile(const std::string& expression, int& error) {
  PCRE2_SIZE place = 0;
  return CodePointer(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()),
                                   expression.size(), PCRE2_UTF | PCRE2_UCP, &error, &place,
                                   nullptr));
}

bool matches_empty(const pcre2_code* code) {
  uint32_t can = 0;
  pcre2_pattern_info(code, PCRE2_INFO_MATCHEMPTY, &can);
  return can != 0;
}

}  // namespace

std::optional<std::string> error_in_pattern(std::string_view expression) {
  const Translation translation(expression);
  if (translation.error()) return translation.error();
  int error = 0;
  const CodePointer code = compile(translation.text(), error);
  if (code == nullptr) return message_of(error);
  if (matches_empty(code.get())) return "the pattern also matches an empty text";
  return std::nullopt;
}

std::string pattern_of_text(std::string_view text) {
  std::string expression;
  for (const char c : text) {
    if (std::ispunct(static_cast<unsigned char>(c)) != 0) expression += '\\';
    expression += c;
  }
  return expression;
}

struct TextPattern::Code {
  CodePointer compiled;

  // Where the next match from `from` on begins and ends.
  std::optional<std::pair<size_t, size_t>> find(std::string_view text, size_t from,
                                                uint32_t options, pcre2_match_data* match) const {
    const int found = pcre2_match(compiled.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                                  text.size(), from, options | PCRE2_NO_UTF_CHECK, match, nullptr);
    if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
    CHECK(found >= 0, ExitCode::kBadData,
          "the pattern of tokenizer.json cannot cut a text of {} bytes into words: {}", text.size(),
          message_of(found));
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(match);
    return std::pair(ends[0], ends[1]);
  }
};

TextPattern::TextPattern(std::string_view expression) {
  int error = 0;
  auto code = std::make_shared<Code>();
  code->compiled = compile(Translation(expression).text(), error);
  ASSERT(code->compiled != nullptr, "{}: {}", expression, message_of(error));
  code_ = std::move(code);
}

std::vector<TextPattern::Part> TextPattern::split(std::string_view text) const {
  std::vector<Part> parts;
  const MatchPointer memory(pcre2_match_data_create(1, nullptr));
  size_t at = 0;
  while (const auto match = code_->find(text, at, 0, memory.get())) {
    const auto [begin, end] = *match;
    if (begin > at) parts.push_back({text.substr(at, begin - at), false});
    parts.push_back({text.substr(begin, end - begin), true});
    at = end;
  }
  if (at < text.size()) parts.push_back({text.substr(at), false});
  return parts;
}

std::vector<std::string_view> TextCut::words_of(std::string_view text) const {
  std::vector<std::string_view> words;
  bool after_match = false;
  for (const auto& [part, found] : pattern.split(text)) {
    const bool matches = found != inverted, is_first = words.empty();
    const bool joins =
        !is_first && (behavior == Behavior::kMergedWithPrevious ? matches && !after_match
                      : behavior == Behavior::kMergedWithNext   ? !matches && after_match
                      : behavior == Behavior::kContiguous       ? matches == after_match
                                                                : false);
    if (joins)
      words.back() = {words.back().data(), words.back().size() + part.size()};
    else if (!matches || behavior != Behavior::kRemoved)
      words.push_back(part);
    after_match = matches;
  }
  return words;
}

bool TextPattern::matches_begin(std::string_view text) const {
  const MatchPointer memory(pcre2_match_data_create(1, nullptr));
  return code_->find(text, 0, PCRE2_ANCHORED, memory.get()).has_value();
}

}  // namespace facet
