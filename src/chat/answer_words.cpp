#include "chat/answer_words.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <map>
#include <sstream>
#include <utility>

namespace facet {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
// Bytes beyond ASCII are parts of letters.
bool is_word(char c) {
  return is_digit(c) || is_letter(c) || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}
bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_punctuation(char c) { return c > ' ' && c < 0x7f && (c == '_' || !is_word(c)); }

// Bytes that are no UTF-8 stay as they are.
std::string lower(std::string_view text) {
  std::string result;
  for (size_t at = 0; at < text.size();) {
    const auto* const begin = reinterpret_cast<const utf8proc_uint8_t*>(text.data() + at);
    utf8proc_int32_t code = 0;
    const utf8proc_ssize_t bytes =
        utf8proc_iterate(begin, static_cast<utf8proc_ssize_t>(text.size() - at), &code);
    if (bytes < 1) {
      result += text[at++];
      continue;
    }
    std::array<utf8proc_uint8_t, 4> letter{};
    const utf8proc_ssize_t count = utf8proc_encode_char(utf8proc_tolower(code), letter.data());
    result.append(letter.begin(), letter.begin() + count);
    at += static_cast<size_t>(bytes);
  }
  return result;
}

bool is_article(std::string_view word) { return word == "a" || word == "an" || word == "the"; }

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> words;
  std::istringstream stream(text);
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, " "));
}

void replace_all(std::string& text, std::string_view old, std::string_view by) {
  for (size_t at = text.find(old); at != std::string::npos; at = text.find(old, at + by.size()))
    text.replace(at, old.size(), by);
}

}  // namespace

std::string plain_words(std::string_view text) {
  std::string kept = lower(text);
  std::erase_if(kept, is_punctuation);
  std::vector<std::string> words = split(kept);
  if (!std::all_of(words.begin(), words.end(), is_article)) std::erase_if(words, is_article);
  return joined(words);
}

// ---- VQA

namespace {

bool has_comma_between_digits(std::string_view text) {
  for (size_t i = 1; i + 1 < text.size(); ++i)
    if (text[i] == ',' && is_digit(text[i - 1]) && is_digit(text[i + 1])) return true;
  return false;
}

const std::map<std::string, std::string, std::less<>>& number_words() {
  static const std::map<std::string, std::string, std::less<>> kDigits = {
      {"none", "0"}, {"zero", "0"}, {"one", "1"},   {"two", "2"},   {"three", "3"}, {"four", "4"},
      {"five", "5"}, {"six", "6"},  {"seven", "7"}, {"eight", "8"}, {"nine", "9"},  {"ten", "10"}};
  return kDigits;
}

// By their spellings that lack one apostrophe.
const std::map<std::string, std::string, std::less<>>& contractions() {
  static const auto kBySpelling = [] {
    std::map<std::string, std::string, std::less<>> by_spelling;
    for (const std::string& word :
         split("ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't "
               "hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've "
               "it'll ma'am might've mightn't mightn't've must've mustn't needn't not've o'clock "
               "oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've "
               "somebody'll somebody's someone'd someone'd've someone'll someone's something'd "
               "something'd've something'll that's there'd there'd've there're there's they'd "
               "they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll "
               "what're what's what've when's where'd where's where've who'd who'd've who'll who's "
               "who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'd've "
               "y'all'll you'd you'd've you'll you're you've"))
      for (size_t at = word.find('\''); at != std::string::npos; at = word.find('\'', at + 1)) {
        std::string spelling = word;
        by_spelling.emplace(spelling.erase(at, 1), word);
      }
    return by_spelling;
  }();
  return kBySpelling;
}

// A mark goes if it stands beside a blank anywhere, or if a comma groups digits; elsewhere it
// becomes a blank. A full stop goes unless a digit follows.
std::string without_punctuation(std::string_view text) {
  std::string result(text);
  const bool grouped = has_comma_between_digits(text);
  for (const char mark : std::string_view(";/[]\"{}()=+\\_-><@`,?!")) {
    const bool beside_blank = text.find(std::string{mark, ' '}) != std::string_view::npos ||
                              text.find(std::string{' ', mark}) != std::string_view::npos;
    replace_all(result, std::string(1, mark), beside_blank || grouped ? "" : " ");
  }
  std::string kept;
  for (size_t i = 0; i < result.size(); ++i)
    if (result[i] != '.' || (i + 1 < result.size() && is_digit(result[i + 1]))) kept += result[i];
  return kept;
}

}  // namespace

std::string vqa_words(std::string_view answer) {
  std::string text(answer);
  std::replace_if(text.begin(), text.end(), is_blank, ' ');
  text.erase(0, std::min(text.find_first_not_of(' '), text.size()));
  text.erase(text.find_last_not_of(' ') + 1);
  std::vector<std::string> words = split(lower(without_punctuation(text)));
  for (std::string& word : words) {
    if (const auto digits = number_words().find(word); digits != number_words().end())
      word = digits->second;
    if (const auto full = contractions().find(word); full != contractions().end())
      word = full->second;
  }
  std::erase_if(words, is_article);
  return joined(words);
}

// ---- captions

namespace {

// One run of text without blanks, cut into tokens from its front.
class CaptionScanner {
 public:
  CaptionScanner(std::string_view chunk, std::vector<std::string>& words)
      : text_(chunk), words_(words) {}

  void scan() {
    if (text_.find("://") != std::string_view::npos) return words_.emplace_back(text_), void();
    while (at_ < text_.size()) scan_one();
  }

 private:
  char next(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  void scan_one();
  void scan_word();
  bool goes_on_with(size_t at) const;
  bool is_abbreviation(std::string_view word) const;
  void add_parts(std::string_view word);
  void add_symbol();

  std::string_view text_;
  std::vector<std::string>& words_;
  size_t at_ = 0;
};

void CaptionScanner::scan_one() {
  const char c = next();
  const bool tag = (c == '#' || c == '@') && is_letter(next(1));
  const bool short_year = c == '\'' && is_digit(next(1));
  if (is_word(c) || tag || short_year) return scan_word();
  if (c == '\'') {  // "'s", standing alone
    const std::string_view rest = text_.substr(at_);
    static constexpr std::array kEnds = {"'s", "'m", "'d", "'re", "'ve", "'ll"};
    if (std::find(kEnds.begin(), kEnds.end(), rest) != kEnds.end()) {
      words_.emplace_back(rest);
      at_ = text_.size();
      return;
    }
  }
  add_symbol();
}

// Whether the mark there belongs to the word around it.
bool CaptionScanner::goes_on_with(size_t at) const {
  if (at + 1 >= text_.size() || !is_word(text_[at + 1])) return false;
  const char c = text_[at];
  if (c == ',' || c == ':') return is_digit(text_[at - 1]) && is_digit(text_[at + 1]);
  return c == '-' || c == '/' || c == '.' || c == '\'';
}

bool CaptionScanner::is_abbreviation(std::string_view word) const {
  static constexpr std::array kTitles = {"mr", "mrs", "ms",   "dr",  "st",  "vs",
                                         "jr", "sr",  "prof", "inc", "ltd", "etc"};
  if (std::find(kTitles.begin(), kTitles.end(), word) != kTitles.end()) return true;
  bool letters = word.size() >= 3;  // "u.s"
  for (size_t i = 0; i < word.size(); ++i)
    letters = letters && (i % 2 == 0 ? is_letter(word[i]) : word[i] == '.');
  return letters && word.size() % 2 == 1;
}

void CaptionScanner::scan_word() {
  const size_t begin = at_++;
  while (at_ < text_.size() && (is_word(text_[at_]) || goes_on_with(at_))) ++at_;
  if (next() == '.' && is_abbreviation(text_.substr(begin, at_ - begin))) ++at_;
  add_parts(text_.substr(begin, at_ - begin));
}

// The Treebank cuts contractions in two.
void CaptionScanner::add_parts(std::string_view word) {
  static constexpr std::array<std::pair<std::string_view, size_t>, 6> kWhole = {
      {{"cannot", 3}, {"gonna", 3}, {"wanna", 3}, {"gotta", 3}, {"gimme", 3}, {"lemme", 3}}};
  for (const auto& [whole, first] : kWhole)
    if (word == whole) {
      words_.emplace_back(word.substr(0, first));
      words_.emplace_back(word.substr(first));
      return;
    }
  static constexpr std::array<std::string_view, 7> kEnds = {"n't", "'s",  "'m", "'d",
                                                            "'re", "'ve", "'ll"};
  for (const std::string_view end : kEnds)
    if (word.size() > end.size() && word.ends_with(end)) {
      add_parts(word.substr(0, word.size() - end.size()));
      words_.emplace_back(end);
      return;
    }
  words_.emplace_back(word);
}

// Punctuation is left out; but two or more of "?!" are a word, and so is a bracket.
void CaptionScanner::add_symbol() {
  static const std::map<char, const char*> kBrackets = {{'(', "-lrb-"}, {')', "-rrb-"},
                                                        {'[', "-lsb-"}, {']', "-rsb-"},
                                                        {'{', "-lcb-"}, {'}', "-rcb-"}};
  const char c = next();
  if (c == '?' || c == '!') {
    const size_t end = std::min(text_.find_first_not_of("?!", at_), text_.size());
    if (end - at_ > 1) words_.emplace_back(text_.substr(at_, end - at_));
    at_ = end;
    return;
  }
  ++at_;
  if (const auto bracket = kBrackets.find(c); bracket != kBrackets.end())
    words_.emplace_back(bracket->second);
  else if (std::string_view(".,:;-'\"`").find(c) == std::string_view::npos)
    words_.emplace_back(1, c);
}

}  // namespace

std::vector<std::string> caption_words(std::string_view text) {
  std::string plain = lower(text);
  for (const char* quote : {"\u2018", "\u2019"}) replace_all(plain, quote, "'");
  for (const char* quote : {"\u201c", "\u201d"}) replace_all(plain, quote, "\"");
  std::vector<std::string> words;
  for (const std::string& chunk : split(plain)) CaptionScanner(chunk, words).scan();
  return words;
}

}  // namespace facet
