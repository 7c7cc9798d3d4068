#include "data/image_names.h"

#include <fmt/format.h>
#include <langinfo.h>
#include <locale.h>
#include <wctype.h>

#include <array>
#include <utility>

#include "base/check.h"
#include "base/utf8.h"

namespace facet {

namespace {

constexpr std::string_view kMark = "IMAGE#";

// a ... z, aa, ab ...
std::string letters(int64_t index, char first) {
  std::string text;
  for (int64_t rest = index + 1; rest > 0; rest = (rest - 1) / 26)
    text.insert(text.begin(), static_cast<char>(first + (rest - 1) % 26));
  return text;
}

std::string ordinal(int64_t number) {
  constexpr std::array<const char*, 12> kWords = {"first", "second", "third",    "fourth",
                                                  "fifth", "sixth",  "seventh",  "eighth",
                                                  "ninth", "tenth",  "eleventh", "twelfth"};
  if (number <= static_cast<int64_t>(kWords.size())) return kWords[static_cast<size_t>(number - 1)];
  const bool teens = number / 10 % 10 == 1;
  const int64_t last = teens ? 0 : number % 10;
  return fmt::format("{}{}", number, last == 1 ? "st" : last == 2 ? "nd" : last == 3 ? "rd" : "th");
}

// Which of the ids stands at the begin of the text; ids.size() if none.
size_t id_at(std::string_view text, const std::vector<std::string>& ids, PromptStyle style) {
  size_t found = ids.size();
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!text.starts_with(ids[i])) continue;
    if (found == ids.size() || ids[i].size() > ids[found].size()) found = i;
    if (style == PromptStyle::kVisualChat) break;
  }
  return found;
}

// The C library's tables of characters, whatever the user's locale is.
locale_t unicode() {
  static const locale_t locale = [] {
    for (const char* name : {"C.UTF-8", "C.utf8", "en_US.UTF-8"})
      if (const locale_t found = newlocale(LC_CTYPE_MASK, name, nullptr); found != nullptr)
        return found;
    fail(ExitCode::kSystem, "this system has none of the locales C.UTF-8 and en_US.UTF-8");
  }();
  return locale;
}

bool is_word(uint32_t code) {
  return code == '_' || iswalnum_l(static_cast<wint_t>(code), unicode()) != 0;
}

bool is_space(uint32_t code) {
  return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x20) || code == 0x85 ||
         code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
         code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool ends_sentence(uint32_t code) { return code == '.' || code == '?' || code == '!'; }

uint32_t capital(uint32_t code) {
  static const wctrans_t to_title = wctrans_l("totitle", unicode());
  return static_cast<uint32_t>(towctrans_l(static_cast<wint_t>(code), to_title, unicode()));
}

uint32_t small(uint32_t code) {
  return static_cast<uint32_t>(towlower_l(static_cast<wint_t>(code), unicode()));
}

}  // namespace

std::string image_name(ImageNaming naming, int64_t index) {
  switch (naming) {
    case ImageNaming::kSmallLetters: return "image " + letters(index, 'a');
    case ImageNaming::kCapitalLetters: return "image " + letters(index, 'A');
    case ImageNaming::kOrdinals: return fmt::format("the {} image", ordinal(index + 1));
  }
  ASSERT(false, "no such naming");
}

std::string name_images(std::string_view text, const std::vector<std::string>& ids,
                        ImageNaming naming, PromptStyle style) {
  std::string named;
  while (!text.empty()) {
    const bool marked = text.starts_with(kMark);
    const size_t i = marked ? id_at(text.substr(kMark.size()), ids, style) : ids.size();
    if (i == ids.size()) {
      named += text.front();
      text.remove_prefix(1);
    } else {
      named += image_name(naming, static_cast<int64_t>(i));
      text.remove_prefix(kMark.size() + ids[i].size());
    }
  }
  return named;
}

std::string capitalise_sentences(std::string_view text, PromptStyle style) {
  std::string result;
  uint32_t last = 0, before_last = 0;
  bool first = true, in_word = false;  // in_word: inside one that got a capital
  while (!text.empty()) {
    const Utf8Character c = utf8_character(text);
    if (c.length == 0) {  // the prompt will refuse the text
      result += text;
      break;
    }
    const bool word = is_word(c.code);
    const bool begins = word && (first || (is_space(last) && ends_sentence(before_last)));
    in_word = begins || (in_word && word);
    const bool lowers = in_word && style == PromptStyle::kVisualChat;
    append_utf8(result, begins ? capital(c.code) : lowers ? small(c.code) : c.code);
    before_last = std::exchange(last, c.code);
    first = false;
    text.remove_prefix(c.length);
  }
  return result;
}

}  // namespace facet
