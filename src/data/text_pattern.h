// Regular expressions as tokenizer.json has them: they cut a text into words, each of which is then
// tokenized on its own. PCRE2 does the matching.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace facet {

// Why the expression can't be used; nothing if it can. The tokenizers library matches with
// Oniguruma: only what means the same there and in PCRE2 is taken, which is characters, `.`, sets,
// groups `(...) (?:...) (?i:...)`, look-aheads, `* + ? {n,m}` and their lazy forms, and the escapes
// \p{..} \P{..} \s \S \d \D \r \n \t and those of punctuation.
std::optional<std::string> error_in_pattern(std::string_view expression);

// An expression that matches this text only.
std::string pattern_of_text(std::string_view text);

class TextPattern {
 public:
  explicit TextPattern(std::string_view expression);  // error_in_pattern() has found nothing

  struct Part {
    std::string_view text;  // not empty
    bool matches = false;
  };
  // All of a text in UTF-8: what matches, one match after the other, and what lies between.
  std::vector<Part> split(std::string_view text) const;
  bool matches_begin(std::string_view text) const;  // of a text in UTF-8

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

// Where a pattern cuts a text into words, as the library's `behavior` says it.
struct TextCut {
  enum class Behavior : uint8_t {
    kIsolated,            // each match is a word, and so is what lies between
    kRemoved,             // matches are left out
    kMergedWithPrevious,  // a match belongs to what is before it
    kMergedWithNext,      // to what is behind it
    kContiguous,          // matches without anything between are one word
  };
  TextPattern pattern;
  Behavior behavior = Behavior::kIsolated;
  bool inverted = false;  // what matches and what lies between change places

  std::vector<std::string_view> words_of(std::string_view text) const;
};

}  // namespace facet
