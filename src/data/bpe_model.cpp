#include <algorithm>
#include <cstdlib>

#include "base/check.h"
#include "base/utf8.h"
#include "data/added_token_matcher.h"
#include "data/byte_level.h"
#include "data/token_model.h"
#include "data/tokenizer_json.h"
#include "data/unicode_composition.h"

namespace facet {

namespace {

constexpr std::string_view kMark = "\u2581";
constexpr std::string_view kReplacement = "\uFFFD";

std::string replaced(std::string_view text, std::string_view what, std::string_view by) {
  std::string result;
  for (size_t at = 0;;) {
    const size_t found = std::min(text.find(what, at), text.size());
    result += text.substr(at, found - at);
    if (found == text.size()) return result;
    result += by;
    at = found + what.size();
  }
}

// "<0x0A>" is the byte 10.
std::optional<char> byte_of_token(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  const std::string digits(text.substr(3, 2));
  char* end = nullptr;
  const unsigned long byte = std::strtoul(digits.c_str(), &end, 16);
  if (end != digits.c_str() + 2) return std::nullopt;
  return static_cast<char>(byte);
}

// Appends bytes that should be UTF-8; if they are not, a U+FFFD for each.
void append_bytes(std::string& text, std::string& bytes) {
  if (is_utf8(bytes)) {
    text += bytes;
  } else {
    for (size_t i = 0; i < bytes.size(); ++i) text += kReplacement;
  }
  bytes.clear();
}

// How many bytes belong to a character that breaks off here (Unicode, "maximal subpart").
size_t broken_length(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0u; };
  const uint32_t lead = byte(0);
  size_t length = 1;
  if (lead < 0xC2 || lead > 0xF4) return length;
  const uint32_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint32_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high) return length;
  const size_t whole = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  for (length = 2; length < whole && byte(length) >> 6 == 2; ++length) {
  }
  return length;
}

// The bytes as UTF-8, with U+FFFD for what is none.
std::string as_utf8(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    size_t length = utf8_length(bytes);
    if (length > 0) {
      text += bytes.substr(0, length);
    } else {
      length = broken_length(bytes);
      text += kReplacement;
    }
    bytes.remove_prefix(length);
  }
  return text;
}

class BpeModel : public TokenModel {
 public:
  explicit BpeModel(TokenizerJson json)
      : steps_(std::move(json.steps)),
        begin_token_(std::move(json.begin_token)),
        strips_first_space_(json.strips_first_space),
        bpe_(std::move(json.bpe)) {}

  int64_t size() const override { return bpe_.size(); }
  std::optional<int32_t> find(std::string_view text) const override { return bpe_.find(text); }
  std::string text_of(int32_t id) const override { return bpe_.text_of(id); }
  Roles roles() const override { return {std::nullopt, begin_token_, std::nullopt}; }
  bool opens_with_begin() const override { return begin_token_.has_value(); }

  void set_added_tokens(const AddedTokens& added) override;
  std::vector<int32_t> encode(std::string_view text) const override;
  std::string decode(std::span<const int32_t> ids) const override;
  TextBound bound() const override;

 private:
  std::string normalized(std::string_view text) const;
  std::string marked(std::string_view text, bool is_first) const;
  std::vector<std::string_view> words_of(std::string_view text) const;
  void encode_bytes(std::string_view word, std::vector<int32_t>& ids) const;
  void encode_part(std::string_view text, bool is_first, std::vector<int32_t>& ids) const;
  std::optional<std::string> shown_text(int32_t id) const;
  std::string decode_byte_level(std::span<const int32_t> ids) const;
  std::string decode_marked(std::span<const int32_t> ids) const;

  TextSteps steps_;
  std::optional<std::string> begin_token_;
  bool strips_first_space_;
  Bpe bpe_;
  std::vector<AddedToken> added_;
  AddedTokenMatcher as_written_, normalized_;  // tokens looked for before and after the normalizer
};

void BpeModel::set_added_tokens(const AddedTokens& added) {
  added_ = added.all();
  for (const AddedToken& token : added_)
    if (token.normalized) {
      normalized_.add(normalized(token.text), token);
    } else {
      as_written_.add(token.text, token);
    }
}

std::string BpeModel::normalized(std::string_view text) const {
  std::string result = steps_.composes ? composed(text) : std::string(text);
  if (steps_.prepends_mark && !result.empty()) result.insert(0, kMark);
  return steps_.replaces_spaces ? replaced(result, " ", kMark) : result;
}

// Metaspace.
std::string BpeModel::marked(std::string_view text, bool is_first) const {
  using Marks = TextSteps::Marks;
  std::string result = replaced(text, " ", kMark);
  const bool marks =
      steps_.marks == Marks::kEveryPiece || (steps_.marks == Marks::kFirstPiece && is_first);
  if (marks && !result.starts_with(kMark)) result.insert(0, kMark);
  return result;
}

std::vector<std::string_view> BpeModel::words_of(std::string_view text) const {
  std::vector<std::string_view> words = {text};
  for (const TextCut& cut : steps_.cuts) {
    std::vector<std::string_view> shorter;
    for (const std::string_view word : words)
      for (const std::string_view part : cut.words_of(word)) shorter.push_back(part);
    words = std::move(shorter);
  }
  if (!steps_.cuts_at_marks) return words;
  words.clear();
  while (!text.empty()) {
    const size_t end = std::min(text.find(kMark, 1), text.size());
    words.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return words;
}

// ByteLevel.
void BpeModel::encode_bytes(std::string_view word, std::vector<int32_t>& ids) const {
  std::string with_space;
  if (steps_.prefixes_space && !word.starts_with(' ')) word = with_space.append(" ").append(word);
  if (!steps_.last_cut) return bpe_.encode(byte_level_text(word), ids);
  for (const std::string_view part : steps_.last_cut->words_of(word))
    bpe_.encode(byte_level_text(part), ids);
}

void BpeModel::encode_part(std::string_view text, bool is_first, std::vector<int32_t>& ids) const {
  const std::string spaced = steps_.metaspace ? marked(text, is_first) : std::string(text);
  for (const std::string_view word : words_of(spaced)) {
    if (steps_.byte_level) {
      encode_bytes(word, ids);
    } else {
      bpe_.encode(word, ids);
    }
  }
}

std::vector<int32_t> BpeModel::encode(std::string_view text) const {
  CHECK(is_utf8(text), ExitCode::kBadData, "text cannot be tokenized: it is not valid UTF-8");
  std::vector<int32_t> ids;
  for (const AddedTokenMatcher::Part& outer : as_written_.split(text)) {
    if (outer.token != nullptr) {
      ids.push_back(outer.token->id);
      continue;
    }
    const std::string normal = normalized(outer.text);
    for (const AddedTokenMatcher::Part& part : normalized_.split(normal)) {
      const bool is_first = outer.text.data() == text.data() && part.text.data() == normal.data();
      if (part.token != nullptr) {
        ids.push_back(part.token->id);
      } else {
        encode_part(part.text, is_first, ids);
      }
    }
  }
  return ids;
}

// Nothing for special tokens and for rows that only the model has; a token that is looked for in
// normalized text is shown as it stands there.
std::optional<std::string> BpeModel::shown_text(int32_t id) const {
  ASSERT(id >= 0, "token id {}", id);
  const auto found =
      std::lower_bound(added_.begin(), added_.end(), id,
                       [](const AddedToken& token, int32_t wanted) { return token.id < wanted; });
  if (found != added_.end() && found->id == id) {
    if (found->special) return std::nullopt;
    return found->normalized ? normalized(found->text) : found->text;
  }
  return id < bpe_.size() ? std::optional(bpe_.text_of(id)) : std::nullopt;
}

std::string BpeModel::decode(std::span<const int32_t> ids) const {
  return steps_.byte_level ? decode_byte_level(ids) : decode_marked(ids);
}

std::string BpeModel::decode_byte_level(std::span<const int32_t> ids) const {
  std::string bytes;
  for (const int32_t id : ids)
    if (const auto text = shown_text(id)) bytes += byte_level_bytes(*text).value_or(*text);
  return as_utf8(bytes);
}

std::string BpeModel::decode_marked(std::span<const int32_t> ids) const {
  std::string text, bytes;
  for (const int32_t id : ids) {
    const auto token = shown_text(id);
    if (!token) continue;
    if (const auto byte = byte_of_token(*token)) {
      bytes += *byte;
      continue;
    }
    append_bytes(text, bytes);
    text += replaced(*token, kMark, " ");
  }
  append_bytes(text, bytes);
  if (strips_first_space_ && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

TextBound BpeModel::bound() const {
  // Singletons such as U+1FEF, and Hangul syllables, become a third as long.
  constexpr size_t kShrinksBy = 3;
  TextBound::TokenLengths lengths;
  for (int32_t id = 0; id < bpe_.size(); ++id)
    lengths.longest = std::max(lengths.longest, bpe_.text_of(id).size());
  for (const AddedToken& token : added_) {
    lengths.longest = std::max(lengths.longest, token.text.size());
    lengths.take_spaces |= token.lstrip || token.rstrip;
  }
  if (steps_.composes) lengths.longest *= kShrinksBy;
  const bool removes = std::ranges::any_of(
      steps_.cuts, [](const TextCut& cut) { return cut.behavior == TextCut::Behavior::kRemoved; });
  if (removes) return TextBound(lengths);  // nothing is sure to become a token
  if (!steps_.byte_level && !bpe_.knows_bytes())
    for (int c = 0x21; c < 0x7f; ++c) {
      const char text[] = {static_cast<char>(c)};
      if (bpe_.find({text, 1})) lengths.known_characters += text[0];
    }
  else
    lengths.keep_all = true;
  return TextBound(lengths);
}

}  // namespace

std::unique_ptr<TokenModel> open_tokenizer_json(const std::string& directory) {
  return std::make_unique<BpeModel>(read_tokenizer_json(directory + "/tokenizer.json"));
}

}  // namespace facet
