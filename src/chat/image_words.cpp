#include "chat/image_words.h"

#include "base/check.h"

namespace facet {

namespace {

// Takes one word off the line, which begins with it.
class WordReader {
 public:
  explicit WordReader(std::string_view& line) : line_(line) {}

  std::string read() {
    while (!line_.empty() && (quote_ != '\0' || !is_blank(line_.front()))) take_character();
    CHECK(quote_ == '\0', ExitCode::kBadData, "the quote {} is not closed", quote_);
    return word_;
  }

  static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n'; }

 private:
  char next() {
    const char c = line_.front();
    line_.remove_prefix(1);
    return c;
  }

  void take_character() {
    const char c = next();
    if (c == quote_) {
      quote_ = '\0';
    } else if (quote_ == '\0' && (c == '"' || c == '\'')) {
      quote_ = c;
    } else if (c == '\\' && quote_ != '\'') {
      CHECK(!line_.empty(), ExitCode::kBadData, "nothing follows the backslash at the end");
      word_ += next();
    } else {
      word_ += c;
    }
  }

  std::string_view& line_;
  std::string word_;
  char quote_ = '\0';  // the one that is open
};

}  // namespace

std::vector<std::string> words_of_images(std::string_view line, const std::string& home) {
  std::vector<std::string> words;
  while (true) {
    while (!line.empty() && WordReader::is_blank(line.front())) line.remove_prefix(1);
    if (line.empty()) return words;
    std::string word = WordReader(line).read();
    if (!home.empty() && (word == "~" || word.starts_with("~/"))) word.replace(0, 1, home);
    words.push_back(std::move(word));
  }
}

}  // namespace facet
