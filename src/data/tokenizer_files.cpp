#include "data/tokenizer_files.h"

#include <charconv>
#include <filesystem>
#include <map>

#include "base/utf8.h"
#include "io/json.h"

namespace facet {

namespace {

constexpr int64_t kMaxBytes = int64_t{256} << 20;  // tokenizer.json holds a whole vocabulary

// In Transformers' order.
constexpr const char* kRoles[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};

std::optional<JsonDocument> read_if_there(const std::string& directory, const char* file) {
  const std::string path = directory + "/" + file;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return std::nullopt;
  return JsonDocument::read(path, ExitCode::kConfig, kMaxBytes);
}

// The member, unless it is missing or null.
std::optional<JsonValue> find_value(const JsonValue& object, std::string_view key) {
  const std::optional<JsonValue> value = object.find(key);
  return value && !value->is_null() ? value : std::nullopt;
}

void check_token_text(std::string_view text, const JsonValue& place) {
  if (text.empty()) place.reject("a token without text");
  if (!is_utf8(text)) place.reject("the token's text is not valid UTF-8");
}

// A token is a text, or an object with the text as `content`.
AddedToken read_token(const JsonValue& value) {
  AddedToken token;
  token.special = false;
  token.text = value.is_string() ? value.as_string() : value.at("content").as_string();
  check_token_text(token.text, value);
  if (value.is_string()) return token;
  token.lstrip = value.get_bool("lstrip", false);
  token.rstrip = value.get_bool("rstrip", false);
  token.single_word = value.get_bool("single_word", false);
  token.normalized = value.get_bool("normalized", false);
  token.special = value.get_bool("special", false);
  return token;
}

int32_t checked_id(const JsonValue& place, int64_t id) {
  if (id < 0 || id > INT32_MAX) place.reject(fmt::format("{} is no id", id));
  return static_cast<int32_t>(id);
}

int32_t id_of_key(std::string_view key, const JsonValue& place) {
  int64_t id = -1;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
  if (error != std::errc() || end != key.data() + key.size()) place.reject("the key is no id");
  return checked_id(place, id);
}

// Fills TokenizerFiles. The values are views of the documents.
class Reader {
 public:
  explicit Reader(const std::string& directory)
      : config_(read_if_there(directory, "tokenizer_config.json")),
        map_(read_if_there(directory, "special_tokens_map.json")),
        added_(read_if_there(directory, "added_tokens.json")),
        fast_(read_if_there(directory, "tokenizer.json")),
        has_model_(std::filesystem::exists(directory + "/tokenizer.model")) {}

  TokenizerFiles read() {
    const std::optional<JsonValue> decoder = in_config("added_tokens_decoder");
    if (decoder) {
      map_.reset();  // these two are read only by directories that lack the decoder
      read_decoder(*decoder);
    } else {
      if (added_) read_added_tokens(added_->root());
      if (fast_) read_added_tokens_of_fast(fast_->root());
    }
    // The tokenizers library leaves out what it knows already.
    if (fast_ && !has_model_) {
      read_added_tokens_of_fast(fast_->root());
      files_.adds_begin = read_adds_begin();
    }
    for (const char* role : kRoles) read_role(role);
    read_further_tokens();
    for (const auto& [id, placed] : by_id_) files_.placed.push_back(placed);
    files_.marks = read_marks();
    return std::move(files_);
  }

 private:
  std::optional<JsonValue> in_config(std::string_view key) const {
    return config_ ? find_value(config_->root(), key) : std::nullopt;
  }
  // special_tokens_map.json goes before tokenizer_config.json.
  std::optional<JsonValue> named(std::string_view key) const {
    const std::optional<JsonValue> mapped = map_ ? find_value(map_->root(), key) : std::nullopt;
    return mapped ? mapped : in_config(key);
  }

  // `where`: made of the list's own place. JsonValue::where() would search it for each token.
  void place(AddedToken token, int32_t id, std::string where) {
    token.id = id;
    by_id_[id] = {std::move(token), std::move(where)};
  }
  void read_decoder(const JsonValue& decoder);
  void read_added_tokens(const JsonValue& added);
  void read_added_tokens_of_fast(const JsonValue& fast);
  void read_role(const std::string& role);
  void read_further_tokens();
  SpaceMarks read_marks() const;
  std::optional<bool> read_adds_begin() const;
  std::optional<SpaceMarks> marks_of_fast(const JsonValue& fast) const;

  std::optional<JsonDocument> config_, map_, added_, fast_;
  bool has_model_;
  std::map<int32_t, TokenizerFiles::Placed> by_id_;
  TokenizerFiles files_;
};

void Reader::read_decoder(const JsonValue& decoder) {
  const std::string where = decoder.where();
  for (int64_t i = 0; i < decoder.size(); ++i) {
    const auto [key, entry] = decoder.member(i);
    place(read_token(entry), id_of_key(key, entry), fmt::format("{}.{}", where, key));
  }
}

void Reader::read_added_tokens(const JsonValue& added) {
  const std::string where = added.where();
  for (int64_t i = 0; i < added.size(); ++i) {
    const auto [text, id] = added.member(i);
    check_token_text(text, id);
    AddedToken token;
    token.text = text;
    token.special = false;
    token.normalized = true;
    place(std::move(token), checked_id(id, id.as_int()), fmt::format("{}: {}", where, text));
  }
}

void Reader::read_added_tokens_of_fast(const JsonValue& fast) {
  const std::optional<JsonValue> list = find_value(fast, "added_tokens");
  if (!list) return;
  const std::string where = list->where();
  for (int64_t i = 0; i < list->size(); ++i) {
    const JsonValue entry = list->at(i);
    place(read_token(entry), checked_id(entry, entry.at("id").as_int()),
          fmt::format("{}[{}]", where, i));
  }
}

void Reader::read_role(const std::string& role) {
  if (const std::optional<JsonValue> value = named(role))
    files_.named.push_back({role, read_token(*value)});
}

void Reader::read_further_tokens() {
  const std::string role = "additional_special_tokens";
  for (const auto* document : {&config_, &map_})
    if (*document)
      if (const auto list = find_value((*document)->root(), role))
        for (const JsonValue entry : *list) files_.named.push_back({role, read_token(entry)});
  const auto extra = in_config("extra_special_tokens");
  for (int64_t i = 0; extra && i < extra->size(); ++i)
    files_.named.push_back(
        {role, read_token(extra->is_array() ? extra->at(i) : extra->member(i).second)});
}

// Transformers prefers tokenizer.json; without it `legacy` decides how it converts tokenizer.model.
SpaceMarks Reader::read_marks() const {
  if (fast_)
    if (const auto marks = marks_of_fast(fast_->root())) return *marks;
  const auto legacy = in_config("legacy");
  if (!legacy || legacy->as_bool()) return SpaceMarks::kEveryPiece;
  const auto prefix = in_config("add_prefix_space");
  return prefix && !prefix->as_bool() ? SpaceMarks::kNone : SpaceMarks::kFirstPiece;
}

std::optional<bool> Reader::read_adds_begin() const {
  const auto value = in_config("add_bos_token");
  return value ? std::optional(value->as_bool()) : std::nullopt;
}

std::optional<SpaceMarks> Reader::marks_of_fast(const JsonValue& fast) const {
  if (const auto splitter = find_value(fast, "pre_tokenizer");
      splitter && splitter->get_string("type", "") == "Metaspace") {
    const std::string scheme = splitter->get_string("prepend_scheme", "always");
    if (scheme == "never") return SpaceMarks::kNone;
    return scheme == "first" ? SpaceMarks::kFirstPiece : SpaceMarks::kEveryPiece;
  }
  const auto normalizer = find_value(fast, "normalizer");
  if (!normalizer || normalizer->get_string("type", "") != "Sequence") return std::nullopt;
  for (const JsonValue step : normalizer->at("normalizers"))
    if (step.get_string("type", "") == "Prepend") return SpaceMarks::kEveryPiece;
  return std::nullopt;
}

}  // namespace

std::optional<std::string> TokenizerFiles::text_of(std::string_view role) const {
  for (const Named& one : named)
    if (one.role == role) return one.token.text;
  return std::nullopt;
}

std::string TokenizerFiles::identity() const {
  std::string text;
  for (const auto& [token, place] : placed)
    text += fmt::format("{} {} {:d}{:d}{:d}{:d}\n", token.id, token.text, token.lstrip,
                        token.rstrip, token.single_word, token.special);
  for (const auto& [role, token] : named) text += fmt::format("{} {}\n", role, token.text);
  if (marks != SpaceMarks::kEveryPiece) text += fmt::format("marks {}\n", static_cast<int>(marks));
  if (adds_begin) text += fmt::format("begin {:d}\n", *adds_begin);
  return text;
}

TokenizerFiles read_tokenizer_files(const std::string& directory) {
  return Reader(directory).read();
}

}  // namespace facet
