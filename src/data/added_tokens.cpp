#include "data/added_tokens.h"

#include <algorithm>

#include "base/check.h"

namespace facet {

namespace {

// What Python's str.strip() takes away, in UTF-8.
constexpr std::string_view kSpaces[] = {
    "\t",           "\n",           "\v",           "\f",           "\r",
    "\x1C",         "\x1D",         "\x1E",         "\x1F",         " ",
    "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81",
    "\xE2\x80\x82", "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86",
    "\xE2\x80\x87", "\xE2\x80\x88", "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8",
    "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"};

// The bytes of the space that the text begins with (or ends with); 0: none.
size_t space_at_begin(std::string_view text) {
  for (const std::string_view space : kSpaces)
    if (text.starts_with(space)) return space.size();
  return 0;
}
size_t space_at_end(std::string_view text) {
  for (const std::string_view space : kSpaces)
    if (text.ends_with(space)) return space.size();
  return 0;
}

std::string without_first_spaces(std::string_view text) {
  while (const size_t bytes = space_at_begin(text)) text.remove_prefix(bytes);
  return std::string(text);
}

std::string without_last_spaces(std::string_view text) {
  while (const size_t bytes = space_at_end(text)) text.remove_suffix(bytes);
  return std::string(text);
}

// A token with flags changes its neighbours, in the order and by the rules of Transformers'
// PreTrainedTokenizer.tokenize(): a single_word token that touches text becomes part of it.
void apply_flags(std::vector<AddedTokens::Part>& parts) {
  for (size_t i = 0; i < parts.size(); ++i) {
    const AddedToken* token = parts[i].token;
    if (token == nullptr) continue;
    const std::string left = i > 0 ? parts[i - 1].text : "";
    const std::string right = i + 1 < parts.size() ? parts[i + 1].text : "";
    if (token->rstrip && !right.empty()) parts[i + 1].text = without_first_spaces(right);
    if (token->lstrip && !left.empty()) parts[i - 1].text = without_last_spaces(left);
    if (!token->single_word) continue;
    const bool joins_left = !left.empty() && left.back() != ' ';
    if (!joins_left && (right.empty() || right.front() == ' ')) continue;
    AddedTokens::Part& word = joins_left ? parts[i - 1] : parts[i + 1];
    word.text = joins_left ? word.text + token->text : token->text + word.text;
    word.token = nullptr;
    parts[i] = {};
  }
  std::erase_if(parts, [](const AddedTokens::Part& part) { return part.text.empty(); });
}

}  // namespace

std::string_view without_outer_spaces(std::string_view text) {
  while (const size_t bytes = space_at_begin(text)) text.remove_prefix(bytes);
  while (const size_t bytes = space_at_end(text)) text.remove_suffix(bytes);
  return text;
}

void AddedTokens::add(AddedToken token) {
  ASSERT(!token.text.empty() && find(token.text) == nullptr, "token '{}'", token.text);
  tokens_.push_back(std::make_unique<AddedToken>(std::move(token)));
  AddedToken& added = *tokens_.back();
  by_text_.add(added.text, added);
  ids_.insert(added.id);
}

void AddedTokens::make_special(std::string_view text) {
  if (AddedToken* token = by_text_.find(text)) token->special = true;
}

size_t AddedTokens::longest() const {
  size_t bytes = 0;
  for (const auto& token : tokens_) bytes = std::max(bytes, token->text.size());
  return bytes;
}

std::vector<AddedToken> AddedTokens::all() const {
  std::vector<AddedToken> list;
  for (const auto& token : tokens_) list.push_back(*token);
  std::sort(list.begin(), list.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return list;
}

std::vector<AddedTokens::Part> AddedTokens::split(std::string_view text) const {
  std::vector<Part> parts;
  size_t begin = 0;
  const auto add_text = [&](size_t end) {
    if (end > begin) parts.push_back({std::string(text.substr(begin, end - begin)), nullptr});
  };
  for (size_t at = 0; at < text.size();) {
    const AddedToken* token = by_text_.longest_at(text.substr(at)).value;
    if (token == nullptr) {
      ++at;
      continue;
    }
    add_text(at);
    parts.push_back({token->text, token});
    begin = at += token->text.size();
  }
  add_text(text.size());
  apply_flags(parts);
  return parts;
}

}  // namespace facet
