#include <sentencepiece_processor.h>

#include "base/check.h"
#include "data/token_model.h"
#include "io/content_kind.h"
#include "io/file.h"

namespace facet {

namespace {

using Pieces = sentencepiece::SentencePieceProcessor;

constexpr int64_t kMaxModelBytes = int64_t{256} << 20;
constexpr std::string_view kMark = "\xE2\x96\x81";  // U+2581: a space, as the model writes it

// SentencePiece also throws, out of the automaton that it builds of the pieces.
bool loads(const std::string& model, Pieces& pieces) {
  try {
    return pieces.LoadFromSerializedProto(model).ok();
  } catch (const std::exception&) {
    return false;
  }
}

void load_pieces(const std::string& directory, const std::string& model, Pieces& pieces) {
  if (loads(model, pieces)) return;
  const std::string kind = not_what_was_expected(model, "a SentencePiece model");
  fail(ExitCode::kBadData, "{}/tokenizer.model: {}", directory,
       kind.empty() ? "not a SentencePiece model, or damaged; get the file again" : kind);
}

// The model without a space mark before every text. Protobuf merges a field that is there twice, so
// the last one decides: normalizer_spec (3) {add_dummy_prefix (3): false}.
std::string without_dummy_prefix(const std::string& model) {
  return model + std::string("\x1A\x02\x18\x00", 4);
}

class SentencePieceModel : public TokenModel {
 public:
  SentencePieceModel(const std::string& directory, SpaceMarks marks) : marks_(marks) {
    const std::string model = read_file(directory + "/tokenizer.model", kMaxModelBytes);
    load_pieces(directory, model, pieces_);
    CHECK(has(pieces_.bos_id()) && has(pieces_.eos_id()), ExitCode::kConfig,
          "{}/tokenizer.model: the model has no begin or end token", directory);
    if (marks_ != SpaceMarks::kEveryPiece)
      load_pieces(directory, without_dummy_prefix(model), unmarked_pieces_);
  }

  int64_t size() const override { return pieces_.GetPieceSize(); }
  std::optional<int32_t> find(std::string_view text) const override {
    const int id = pieces_.PieceToId({text.data(), text.size()});
    return has(id) && text_of(id) == text ? std::optional<int32_t>(id) : std::nullopt;
  }
  std::string text_of(int32_t id) const override { return pieces_.IdToPiece(id); }

  Roles roles() const override {
    Roles roles{{}, text_of(pieces_.bos_id()), text_of(pieces_.eos_id())};
    if (const int unknown = pieces_.unk_id(); has(unknown)) roles.unknown = text_of(unknown);
    return roles;
  }
  bool opens_with_begin() const override { return true; }

  void set_added_tokens(const AddedTokens& added) override { added_ = &added; }
  std::vector<int32_t> encode(std::string_view text) const override;
  std::string decode(std::span<const int32_t> ids) const override;
  TextBound bound() const override { return TextBound(pieces_, added_->longest()); }

 private:
  // SentencePiece says -1 of a role that no piece has, and ends the process when asked for its
  // text.
  bool has(int id) const { return id >= 0 && id < pieces_.GetPieceSize(); }
  std::vector<AddedTokens::Part> parts_of(std::string_view text) const;
  std::vector<int> encode_part(const std::string& text) const;

  SpaceMarks marks_;
  Pieces pieces_;
  Pieces unmarked_pieces_;  // without_dummy_prefix(); loaded unless marks_ is kEveryPiece
  const AddedTokens* added_ = nullptr;
};

// The text cut at added tokens. Unless the model puts a space mark before every part, the text's
// begin gets one here: a first part that begins with a space has it already.
std::vector<AddedTokens::Part> SentencePieceModel::parts_of(std::string_view text) const {
  std::vector<AddedTokens::Part> parts = added_->split(text);
  const bool marks_begin = marks_ == SpaceMarks::kFirstPiece;
  if (!marks_begin || parts.empty() || parts[0].token != nullptr) return parts;
  std::string& first = parts[0].text;
  if (!first.starts_with(' ') && !first.starts_with(kMark)) first.insert(0, kMark);
  return parts;
}

std::vector<int> SentencePieceModel::encode_part(const std::string& text) const {
  std::vector<int> ids;
  const Pieces& model = marks_ == SpaceMarks::kEveryPiece ? pieces_ : unmarked_pieces_;
  const auto status = model.Encode(text, &ids);
  CHECK(status.ok(), ExitCode::kBadData, "text cannot be tokenized: {}", status.ToString());
  return ids;
}

std::vector<int32_t> SentencePieceModel::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  for (const AddedTokens::Part& part : parts_of(text)) {
    if (part.token != nullptr) {
      ids.push_back(part.token->id);
      continue;
    }
    const std::vector<int> piece_ids = encode_part(part.text);
    ids.insert(ids.end(), piece_ids.begin(), piece_ids.end());
  }
  return ids;
}

std::string SentencePieceModel::decode(std::span<const int32_t> ids) const {
  std::vector<int> piece_ids;
  for (const int32_t id : ids) {
    ASSERT(id >= 0, "token id {}", id);
    // Others are added, or rows that only the model has.
    if (id < pieces_.GetPieceSize() && !added_->has_id(id)) piece_ids.push_back(id);
  }
  std::string text;
  const auto status = pieces_.Decode(piece_ids, &text);
  ASSERT(status.ok(), "decoding: {}", status.ToString());
  return text;
}

}  // namespace

std::unique_ptr<TokenModel> open_sentencepiece(const std::string& directory, SpaceMarks marks) {
  return std::make_unique<SentencePieceModel>(directory, marks);
}

}  // namespace facet
