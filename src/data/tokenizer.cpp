#include "data/tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <filesystem>

#include "base/check.h"
#include "data/text_bound.h"
#include "io/file.h"
#include "io/json.h"

namespace facet {
namespace {

constexpr int64_t kMaxModelBytes = int64_t{256} << 20;

std::string read_model(const std::string& directory) {
  const std::string path = directory + "/tokenizer.model";
  CHECK(std::filesystem::exists(path) || !std::filesystem::exists(directory + "/tokenizer.json"),
        ExitCode::kConfig,
        "{}: there is a tokenizer.json but no tokenizer.model; tokenizer.json is not supported "
        "yet, use "
        "a model with a SentencePiece tokenizer",
        directory);
  return read_file(path, kMaxModelBytes);
}

// added_tokens.json: {"text": id}, in the order of the ids.
std::vector<Tokenizer::AddedToken> read_added_tokens(const std::string& directory) {
  const std::string path = directory + "/added_tokens.json";
  std::vector<Tokenizer::AddedToken> tokens;
  if (!std::filesystem::exists(path)) return tokens;
  const JsonDocument document = JsonDocument::read_config(path);
  const JsonValue root = document.root();
  for (int64_t i = 0; i < root.size(); ++i) {
    const auto [text, id] = root.member(i);
    if (id.as_int() < 0 || id.as_int() > INT32_MAX) id.reject("not an id");
    if (text.empty()) id.reject("an added token without text");
    tokens.push_back({std::string(text), static_cast<int32_t>(id.as_int())});
  }
  std::sort(tokens.begin(), tokens.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return tokens;
}

}  // namespace

struct Tokenizer::Impl {
  sentencepiece::SentencePieceProcessor pieces;
  std::vector<AddedToken> added;    // ids after the pieces
  std::vector<AddedToken> special;  // at which text is split: added tokens, unknown, BOS, EOS
  TextBound bound;
  int64_t base_vocab_size = 0;
  int32_t image_header_id = 0, image_id = 0;

  int64_t vocab_size() const { return pieces.GetPieceSize() + static_cast<int64_t>(added.size()); }

  void load(const std::string& directory) {
    const auto status = pieces.LoadFromSerializedProto(read_model(directory));
    CHECK(status.ok(), ExitCode::kBadData, "{}/tokenizer.model: {}", directory, status.ToString());
    CHECK(pieces.bos_id() >= 0 && pieces.eos_id() >= 0, ExitCode::kConfig,
          "{}/tokenizer.model: the model has no begin or end token", directory);
    for (const int id : {pieces.unk_id(), pieces.bos_id(), pieces.eos_id()})
      special.push_back({pieces.IdToPiece(id), id});
    for (const AddedToken& token : read_added_tokens(directory)) {
      if (token.id < pieces.GetPieceSize()) {
        CHECK(pieces.IdToPiece(token.id) == token.text, ExitCode::kConfig,
              "{}/added_tokens.json: {} has id {}, which tokenizer.model uses for another token",
              directory, token.text, token.id);
        special.push_back(token);
        continue;
      }
      CHECK(
          token.id == vocab_size(), ExitCode::kConfig,
          "{}/added_tokens.json: {} has id {}, expected {}: ids must follow the vocabulary without "
          "gaps",
          directory, token.text, token.id, vocab_size());
      add(token.text);
    }
    base_vocab_size = vocab_size();
  }

  int32_t add(std::string_view text) {
    added.push_back({std::string(text), static_cast<int32_t>(vocab_size())});
    special.push_back(added.back());
    return added.back().id;
  }

  // The id of a token that marks images: from the directory if it has it, else a new one.
  int32_t find_or_add(std::string_view text) {
    for (const AddedToken& token : special)
      if (token.text == text) return token.id;
    const int id = pieces.PieceToId({text.data(), text.size()});
    if (id == pieces.unk_id()) return add(text);
    special.push_back({std::string(text), id});
    return id;
  }

  // The longest special token that begins at `at`, or nullptr.
  const AddedToken* special_at(std::string_view text, size_t at) const {
    const AddedToken* found = nullptr;
    for (const AddedToken& token : special)
      if (text.substr(at).starts_with(token.text) &&
          (!found || token.text.size() > found->text.size()))
        found = &token;
    return found;
  }

  void encode_piece(std::string_view text, std::vector<int32_t>& ids) const {
    if (text.empty()) return;
    std::vector<int> piece_ids;
    const auto status = pieces.Encode({text.data(), text.size()}, &piece_ids);
    CHECK(status.ok(), ExitCode::kBadData, "text cannot be tokenized: {}", status.ToString());
    ids.insert(ids.end(), piece_ids.begin(), piece_ids.end());
  }
};

Tokenizer::Tokenizer(const std::string& directory, PromptStyle style)
    : impl_(std::make_unique<Impl>()) {
  impl_->load(directory);
  impl_->image_header_id = impl_->find_or_add(kImageHeaderText);
  impl_->image_id = impl_->find_or_add(kImageText);
  if (style == PromptStyle::kVisualChat) impl_->find_or_add("<PAD>");
  size_t longest = 0;
  for (const AddedToken& token : impl_->special) longest = std::max(longest, token.text.size());
  impl_->bound = TextBound(impl_->pieces, longest);
}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  size_t piece_begin = 0;
  for (size_t at = 0; at < text.size();) {
    const AddedToken* token = impl_->special_at(text, at);
    if (!token) {
      ++at;
      continue;
    }
    impl_->encode_piece(text.substr(piece_begin, at - piece_begin), ids);
    ids.push_back(token->id);
    piece_begin = at += token->text.size();
  }
  impl_->encode_piece(text.substr(piece_begin), ids);
  return ids;
}

bool Tokenizer::exceeds(std::string_view text, int64_t tokens) const {
  return impl_->bound.exceeds(text, tokens);
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::vector<int> piece_ids;
  for (const int32_t id : ids) {
    ASSERT(id >= 0, "token id {}", id);
    if (id >= impl_->pieces.GetPieceSize()) continue;  // added, or a row that only the model has
    const auto is_id = [id](const AddedToken& token) { return token.id == id; };
    if (std::none_of(impl_->special.begin(), impl_->special.end(), is_id)) piece_ids.push_back(id);
  }
  std::string text;
  const auto status = impl_->pieces.Decode(piece_ids, &text);
  ASSERT(status.ok(), "decoding: {}", status.ToString());
  return text;
}

int64_t Tokenizer::vocab_size() const { return impl_->vocab_size(); }
int64_t Tokenizer::base_vocab_size() const { return impl_->base_vocab_size; }
int32_t Tokenizer::bos_id() const { return impl_->pieces.bos_id(); }
int32_t Tokenizer::eos_id() const { return impl_->pieces.eos_id(); }
int32_t Tokenizer::image_header_id() const { return impl_->image_header_id; }
int32_t Tokenizer::image_id() const { return impl_->image_id; }
const std::vector<Tokenizer::AddedToken>& Tokenizer::added_tokens() const { return impl_->added; }

}  // namespace facet
