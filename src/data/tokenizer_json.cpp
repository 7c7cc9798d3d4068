#include "data/tokenizer_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <unordered_map>

#include "data/byte_level.h"
#include "io/json.h"

namespace facet {

namespace {

constexpr int64_t kMaxBytes = int64_t{256} << 20;
constexpr std::string_view kMark = "\u2581";
// GPT-2's, which ByteLevel cuts by unless it is told not to.
constexpr std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

std::optional<JsonValue> value_of(const JsonValue& object, std::string_view key) {
  const std::optional<JsonValue> value = object.find(key);
  return value && !value->is_null() ? value : std::nullopt;
}

std::string type_of(const JsonValue& component) { return component.get_string("type", ""); }

void check_members(const JsonValue& object, std::initializer_list<std::string_view> known) {
  for (int64_t i = 0; i < object.size(); ++i) {
    const auto [key, value] = object.member(i);
    if (std::find(known.begin(), known.end(), key) == known.end())
      value.reject("this member is not known");
  }
}

// A component without a type is refused as any that nobody knows.
[[noreturn]] void refuse_component(const JsonValue& component, std::string_view known) {
  component.reject(fmt::format(
      "{} is not supported here, only {}",
      type_of(component).empty() ? "a component without type" : "type " + type_of(component),
      known));
}

// Of a text member that may have one value only.
void check_text(const JsonValue& component, std::string_view key, std::string_view expected) {
  const JsonValue value = component.at(key);
  if (value.as_string() != expected)
    value.reject(fmt::format("only \"{}\" is supported, not \"{}\"", expected, value.as_string()));
}

TextCut::Behavior behavior_of(const JsonValue& value) {
  using Behavior = TextCut::Behavior;
  constexpr std::pair<std::string_view, Behavior> kNames[] = {
      {"Isolated", Behavior::kIsolated},
      {"Removed", Behavior::kRemoved},
      {"MergedWithPrevious", Behavior::kMergedWithPrevious},
      {"MergedWithNext", Behavior::kMergedWithNext},
      {"Contiguous", Behavior::kContiguous}};
  for (const auto& [name, behavior] : kNames)
    if (value.as_string() == name) return behavior;
  value.reject(fmt::format("\"{}\" is not supported", value.as_string()));
}

// Calls `read` for a component, or for each of a Sequence's.
template <typename Read>
void for_each_component(const JsonValue& component, std::string_view list, const Read& read) {
  if (type_of(component) != "Sequence") return read(component);
  check_members(component, {"type", list});
  for (const JsonValue step : component.at(list)) read(step);
}

class Reader {
 public:
  explicit Reader(const JsonValue& root) : root_(root) {}

  TokenizerJson read() {
    // Truncation and padding are what a call of the library does where it is not told otherwise;
    // added_tokens are read with those of the other files (tokenizer_files.h).
    check_members(root_, {"version", "truncation", "padding", "added_tokens", "normalizer",
                          "pre_tokenizer", "post_processor", "decoder", "model"});
    read_model(root_.at("model"));
    if (const auto normalizer = value_of(root_, "normalizer"))
      for_each_component(*normalizer, "normalizers",
                         [&](const JsonValue& step) { read_normalizer(step); });
    if (const auto splitter = value_of(root_, "pre_tokenizer"))
      for_each_component(*splitter, "pretokenizers",
                         [&](const JsonValue& step) { read_pre_tokenizer(step); });
    if (const auto processor = value_of(root_, "post_processor"))
      for_each_component(*processor, "processors",
                         [&](const JsonValue& step) { read_post_processor(step); });
    read_decoder(root_.at("decoder"));
    check_characters(root_.at("model"));
    return std::move(result_);
  }

 private:
  void read_model(const JsonValue& model);
  void read_vocabulary(const JsonValue& vocabulary);
  void read_merges(const JsonValue& merges);
  int32_t token_of(const JsonValue& place, std::string_view text) const;
  std::array<int32_t, 3> merge_of(const JsonValue& place, std::string_view left,
                                  std::string_view right) const;
  void read_normalizer(const JsonValue& step);
  void read_pre_tokenizer(const JsonValue& step);
  void read_metaspace(const JsonValue& step);
  void read_split(const JsonValue& step);
  void read_digits(const JsonValue& step);
  void read_byte_level(const JsonValue& step);
  void read_post_processor(const JsonValue& step);
  void read_template(const JsonValue& step);
  void read_decoder(const JsonValue& decoder);
  void check_characters(const JsonValue& model);

  JsonValue root_;
  TokenizerJson result_;
  std::unordered_map<std::string_view, int32_t> ids_;
};

void Reader::read_model(const JsonValue& model) {
  if (type_of(model) != "BPE" && model.find("type")) refuse_component(model, "BPE");
  check_members(model,
                {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                 "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
  if (model.get_double("dropout", 0) != 0) model.at("dropout").reject("only null is supported");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!model.get_string(key, "").empty()) model.at(key).reject("only null is supported");
  read_vocabulary(model.at("vocab"));
  read_merges(model.at("merges"));
  Bpe::Settings& bpe = result_.bpe;
  if (const auto unknown = value_of(model, "unk_token"))
    bpe.unknown = token_of(*unknown, unknown->as_string());
  bpe.fuses_unknown = model.get_bool("fuse_unk", false);
  bpe.ignores_merges = model.get_bool("ignore_merges", false);
  if (!model.get_bool("byte_fallback", false)) return;
  std::array<int32_t, 256> bytes{};
  for (size_t byte = 0; byte < bytes.size(); ++byte)
    bytes[byte] = token_of(model.at("byte_fallback"), fmt::format("<0x{:02X}>", byte));
  bpe.bytes = bytes;
}

void Reader::read_vocabulary(const JsonValue& vocabulary) {
  std::vector<std::string>& tokens = result_.bpe.tokens;
  const int64_t count = vocabulary.size();
  tokens.resize(static_cast<size_t>(count));
  ids_.reserve(tokens.size());
  for (int64_t i = 0; i < count; ++i) {
    const auto [text, value] = vocabulary.member(i);
    const int64_t id = value.as_int();
    if (text.empty()) value.reject("a token without text");
    if (id < 0 || id >= count)
      value.reject(
          fmt::format("id {} of {} tokens: ids must be 0, 1, ... without gaps", id, count));
    std::string& token = tokens[static_cast<size_t>(id)];
    if (!token.empty()) value.reject(fmt::format("token {} has id {} too", token, id));
    token = text;
    ids_.emplace(text, static_cast<int32_t>(id));
  }
  if (count == 0) vocabulary.reject("there is no token");
}

int32_t Reader::token_of(const JsonValue& place, std::string_view text) const {
  const auto found = ids_.find(text);
  if (found == ids_.end()) place.reject(fmt::format("the vocabulary has no token {}", text));
  return found->second;
}

std::array<int32_t, 3> Reader::merge_of(const JsonValue& place, std::string_view left,
                                        std::string_view right) const {
  return {token_of(place, left), token_of(place, right),
          token_of(place, std::string(left).append(right))};
}

// A merge is a text with one space, or a pair.
void Reader::read_merges(const JsonValue& merges) {
  result_.bpe.merges.reserve(static_cast<size_t>(merges.size()));
  for (const JsonValue merge : merges) {
    if (merge.is_string()) {
      const std::string_view both = merge.as_string();
      const size_t space = both.find(' ');
      if (space == std::string_view::npos || both.find(' ', space + 1) != std::string_view::npos)
        merge.reject("expected two tokens with a space between them");
      result_.bpe.merges.push_back(merge_of(merge, both.substr(0, space), both.substr(space + 1)));
    } else {
      if (merge.size() != 2)
        merge.reject(fmt::format("expected two tokens, found {}", merge.size()));
      result_.bpe.merges.push_back(
          merge_of(merge, merge.at(int64_t{0}).as_string(), merge.at(int64_t{1}).as_string()));
    }
  }
}

void Reader::read_normalizer(const JsonValue& step) {
  TextSteps& steps = result_.steps;
  const std::string type = type_of(step);
  if (type == "NFC") {
    check_members(step, {"type"});
    steps.composes = true;
  } else if (type == "Prepend") {
    check_members(step, {"type", "prepend"});
    check_text(step, "prepend", kMark);
    if (steps.prepends_mark) step.reject("a second Prepend");
    steps.prepends_mark = true;
  } else if (type == "Replace") {
    check_members(step, {"type", "pattern", "content"});
    check_members(step.at("pattern"), {"String"});
    check_text(step.at("pattern"), "String", " ");
    check_text(step, "content", kMark);
    steps.replaces_spaces = true;
  } else {
    refuse_component(step, "NFC, Prepend, Replace and a Sequence of them");
  }
}

void Reader::read_pre_tokenizer(const JsonValue& step) {
  TextSteps& steps = result_.steps;
  if (steps.byte_level || steps.metaspace)
    step.reject("nothing is supported after ByteLevel or Metaspace");
  const std::string type = type_of(step);
  if (type == "Split") return read_split(step);
  if (type == "Digits") return read_digits(step);
  if (type == "ByteLevel") return read_byte_level(step);
  if (type == "Metaspace" && steps.cuts.empty()) return read_metaspace(step);
  refuse_component(step,
                   "ByteLevel, Metaspace, Split, Digits and a Sequence of Split, Digits and "
                   "ByteLevel");
}

void Reader::read_byte_level(const JsonValue& step) {
  check_members(step, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
  TextSteps& steps = result_.steps;
  steps.byte_level = true;
  steps.prefixes_space = step.at("add_prefix_space").as_bool();
  if (step.get_bool("use_regex", true)) steps.last_cut = TextCut{TextPattern(kByteLevelPattern)};
}

void Reader::read_digits(const JsonValue& step) {
  check_members(step, {"type", "individual_digits"});
  using Behavior = TextCut::Behavior;
  const bool each = step.at("individual_digits").as_bool();
  result_.steps.cuts.push_back(
      {TextPattern("\\p{N}"), each ? Behavior::kIsolated : Behavior::kContiguous});
}

void Reader::read_split(const JsonValue& step) {
  check_members(step, {"type", "pattern", "behavior", "invert"});
  const JsonValue pattern = step.at("pattern");
  check_members(pattern, {"Regex", "String"});
  const auto text = pattern.find("String");
  const JsonValue place = text ? *text : pattern.at("Regex");
  const std::string expression =
      text ? pattern_of_text(text->as_string()) : std::string(place.as_string());
  if (const auto error = error_in_pattern(expression)) place.reject(*error);
  result_.steps.cuts.push_back(
      {TextPattern(expression), behavior_of(step.at("behavior")), step.get_bool("invert", false)});
}

void Reader::read_metaspace(const JsonValue& step) {
  TextSteps& steps = result_.steps;
  check_members(step,
                {"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"});
  check_text(step, "replacement", kMark);
  const bool prefix = step.get_bool("add_prefix_space", true);
  const std::string scheme = step.get_string("prepend_scheme", prefix ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never")
    step.at("prepend_scheme").reject("only always, first and never are supported");
  steps.metaspace = true;
  steps.cuts_at_marks = step.get_bool("split", true);
  if (scheme == "first") steps.marks = TextSteps::Marks::kFirstPiece;
  if (scheme == "always") steps.marks = TextSteps::Marks::kEveryPiece;
}

void Reader::read_post_processor(const JsonValue& step) {
  const std::string type = type_of(step);
  if (type == "TemplateProcessing") return read_template(step);
  if (type != "ByteLevel")
    refuse_component(step, "ByteLevel, TemplateProcessing and a Sequence of them");
  // It only moves offsets, which nobody asks for.
  check_members(step, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
}

// A token before the text is the begin token. One after it would be the end token, which prompts
// put where an answer ends.
void Reader::read_template(const JsonValue& step) {
  check_members(step, {"type", "single", "pair", "special_tokens"});
  bool after_text = false;
  for (const JsonValue piece : step.at("single")) {
    const auto token = piece.find("SpecialToken");
    check_members(piece, {"SpecialToken", "Sequence"});
    if (!token) {
      if (after_text) piece.reject("the text a second time");
      after_text = true;
    } else if (!after_text) {
      if (result_.begin_token) piece.reject("a second token before the text");
      result_.begin_token = token->at("id").as_string();
    }
  }
  if (!after_text) step.at("single").reject("the text itself is missing");
}

void Reader::read_decoder(const JsonValue& decoder) {
  if (result_.steps.byte_level) {
    if (type_of(decoder) != "ByteLevel") refuse_component(decoder, "ByteLevel");
    return check_members(decoder, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
  }
  if (type_of(decoder) != "Sequence")
    refuse_component(decoder, "a Sequence of Replace, ByteFallback, Fuse and Strip");
  constexpr std::string_view kOrder[] = {"Replace", "ByteFallback", "Fuse", "Strip"};
  size_t place = 0;
  for (const JsonValue step : decoder.at("decoders")) {
    if (place == std::size(kOrder) || type_of(step) != kOrder[place])
      refuse_component(step, place < std::size(kOrder) ? kOrder[place] : "the end of the list");
    if (type_of(step) == "Replace") {
      check_text(step.at("pattern"), "String", kMark);
      check_text(step, "content", " ");
    }
    if (type_of(step) == "Strip") {
      check_text(step, "content", " ");
      result_.strips_first_space = step.at("start").as_int() == 1;
      if (!result_.strips_first_space || step.at("stop").as_int() != 0)
        step.reject("only start 1 and stop 0 are supported");
    }
    ++place;
  }
  if (place < 3) decoder.reject("Replace, ByteFallback and Fuse are not all there");
}

// Each character of a text must become a token.
void Reader::check_characters(const JsonValue& model) {
  if (!result_.steps.byte_level) {
    if (!result_.bpe.bytes && !result_.bpe.unknown)
      model.reject("neither byte_fallback nor an unk_token for characters without a token");
    return;
  }
  for (int byte = 0; byte < 256; ++byte) {
    const char bytes[] = {static_cast<char>(byte)};
    if (!ids_.contains(byte_level_text({bytes, 1})))
      model.at("vocab").reject(fmt::format("there is no token for byte 0x{:02X}", byte));
  }
}

}  // namespace

TokenizerJson read_tokenizer_json(const std::string& path) {
  const JsonDocument document = JsonDocument::read(path, ExitCode::kConfig, kMaxBytes);
  return Reader(document.root()).read();
}

}  // namespace facet
