#include "data/tokenizer.h"

#include <sentencepiece_processor.h>

#include <filesystem>

#include "base/check.h"
#include "data/text_bound.h"
#include "io/content_kind.h"
#include "io/file.h"

namespace facet {
namespace {

using Pieces = sentencepiece::SentencePieceProcessor;

constexpr int64_t kMaxModelBytes = int64_t{256} << 20;
constexpr std::string_view kMark = "\xE2\x96\x81";  // U+2581: a space, as the model writes it

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

}  // namespace

bool names_pad_token(const std::string& directory) {
  return read_tokenizer_files(directory).text_of("pad_token").has_value();
}

struct Tokenizer::Impl {
  std::string directory;
  Pieces pieces;
  Pieces unmarked_pieces;  // without_dummy_prefix(); loaded unless marks is kEveryPiece
  SpaceMarks marks = SpaceMarks::kEveryPiece;
  AddedTokens added;
  TextBound bound;
  std::vector<std::pair<std::string, std::string>> roles;
  int64_t vocab_size = 0, base_vocab_size = 0;
  int32_t bos_id = 0, eos_id = 0, image_header_id = 0, image_id = 0;

  void load(PromptStyle style);
  void load_models(const std::string& model, const TokenizerFiles& files);
  void place(const TokenizerFiles::Placed& placed);
  int32_t find_or_append(AddedToken token);
  int32_t id_of_role(const std::optional<std::string>& named, int piece);

  std::vector<AddedTokens::Part> parts_of(std::string_view text) const;
  std::vector<int> encode_part(const std::string& text) const;
};

void Tokenizer::Impl::load(PromptStyle style) {
  const std::string model = read_model(directory);
  const TokenizerFiles files = read_tokenizer_files(directory);
  load_models(model, files);
  vocab_size = pieces.GetPieceSize();
  for (const TokenizerFiles::Placed& placed : files.placed) place(placed);
  for (const TokenizerFiles::Named& named : files.named) {
    find_or_append(named.token);
    added.make_special(named.token.text);
    roles.emplace_back(named.role, named.token.text);
  }
  id_of_role(files.text_of("unk_token"), pieces.unk_id());
  bos_id = id_of_role(files.text_of("bos_token"), pieces.bos_id());
  eos_id = id_of_role(files.text_of("eos_token"), pieces.eos_id());
  base_vocab_size = vocab_size;
  image_header_id = find_or_append({.text = std::string(kImageHeaderText)});
  image_id = find_or_append({.text = std::string(kImageText)});
  if (style == PromptStyle::kVisualChat && !files.text_of("pad_token"))
    find_or_append({.text = "<PAD>"});
}

void Tokenizer::Impl::load_models(const std::string& model, const TokenizerFiles& files) {
  load_pieces(directory, model, pieces);
  CHECK(pieces.bos_id() >= 0 && pieces.eos_id() >= 0, ExitCode::kConfig,
        "{}/tokenizer.model: the model has no begin or end token", directory);
  marks = files.marks;
  if (marks != SpaceMarks::kEveryPiece)
    load_pieces(directory, without_dummy_prefix(model), unmarked_pieces);
}

// A token that comes with its id.
void Tokenizer::Impl::place(const TokenizerFiles::Placed& placed) {
  const AddedToken& token = placed.token;
  if (token.id < pieces.GetPieceSize()) {
    CHECK(pieces.IdToPiece(token.id) == token.text, ExitCode::kConfig,
          "{}: {} has id {}, which tokenizer.model uses for another token", placed.place,
          token.text, token.id);
    return added.add(token);
  }
  CHECK(token.id == vocab_size, ExitCode::kConfig,
        "{}: {} has id {}, expected {}: ids must follow the vocabulary without gaps", placed.place,
        token.text, token.id, vocab_size);
  const int piece = pieces.PieceToId(token.text);
  const bool is_piece = pieces.IdToPiece(piece) == token.text;
  CHECK(!is_piece && added.find(token.text) == nullptr, ExitCode::kConfig,
        "{}: {} has id {}, but it is token {} already", placed.place, token.text, token.id,
        is_piece ? piece : added.find(token.text)->id);
  added.add(token);
  ++vocab_size;
}

// A token that comes without an id: its id if the directory has it, else the next one.
int32_t Tokenizer::Impl::find_or_append(AddedToken token) {
  if (const AddedToken* known = added.find(token.text)) return known->id;
  token.id = pieces.PieceToId(token.text);
  if (pieces.IdToPiece(token.id) != token.text) token.id = static_cast<int32_t>(vocab_size++);
  const int32_t id = token.id;
  added.add(std::move(token));
  return id;
}

// The token that the files name for a role, or the model's own.
int32_t Tokenizer::Impl::id_of_role(const std::optional<std::string>& named, int piece) {
  return find_or_append({.text = named.value_or(pieces.IdToPiece(piece))});
}

// The text cut at added tokens. Unless the model puts a space mark before every part, the text's
// begin gets one here: a first part that begins with a space has it already.
std::vector<AddedTokens::Part> Tokenizer::Impl::parts_of(std::string_view text) const {
  std::vector<AddedTokens::Part> parts = added.split(text);
  const bool marks_begin = marks == SpaceMarks::kFirstPiece;
  if (!marks_begin || parts.empty() || parts[0].token != nullptr) return parts;
  std::string& first = parts[0].text;
  if (!first.starts_with(' ') && !first.starts_with(kMark)) first.insert(0, kMark);
  return parts;
}

std::vector<int> Tokenizer::Impl::encode_part(const std::string& text) const {
  std::vector<int> ids;
  const Pieces& model = marks == SpaceMarks::kEveryPiece ? pieces : unmarked_pieces;
  const auto status = model.Encode(text, &ids);
  CHECK(status.ok(), ExitCode::kBadData, "text cannot be tokenized: {}", status.ToString());
  return ids;
}

Tokenizer::Tokenizer(const std::string& directory, PromptStyle style)
    : impl_(std::make_unique<Impl>()) {
  impl_->directory = directory;
  impl_->load(style);
  impl_->bound = TextBound(impl_->pieces, impl_->added.longest());
}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  for (const AddedTokens::Part& part : impl_->parts_of(text)) {
    if (part.token != nullptr) {
      ids.push_back(part.token->id);
      continue;
    }
    const std::vector<int> piece_ids = impl_->encode_part(part.text);
    ids.insert(ids.end(), piece_ids.begin(), piece_ids.end());
  }
  return ids;
}

bool Tokenizer::exceeds(std::string_view text, int64_t tokens) const {
  return impl_->bound.exceeds(text, tokens);
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::vector<int> piece_ids;
  for (const int32_t id : ids) {
    ASSERT(id >= 0, "token id {}", id);
    // Others are added, or rows that only the model has.
    if (id < impl_->pieces.GetPieceSize() && !impl_->added.has_id(id)) piece_ids.push_back(id);
  }
  std::string text;
  const auto status = impl_->pieces.Decode(piece_ids, &text);
  ASSERT(status.ok(), "decoding: {}", status.ToString());
  return text;
}

int64_t Tokenizer::num_pieces() const { return impl_->pieces.GetPieceSize(); }
int64_t Tokenizer::base_vocab_size() const { return impl_->base_vocab_size; }
int64_t Tokenizer::vocab_size() const { return impl_->vocab_size; }
int32_t Tokenizer::bos_id() const { return impl_->bos_id; }
int32_t Tokenizer::eos_id() const { return impl_->eos_id; }
int32_t Tokenizer::image_header_id() const { return impl_->image_header_id; }
int32_t Tokenizer::image_id() const { return impl_->image_id; }
std::vector<AddedToken> Tokenizer::split_tokens() const { return impl_->added.all(); }
std::vector<AddedToken> Tokenizer::added_tokens() const {
  std::vector<AddedToken> tokens = split_tokens();
  std::erase_if(tokens, [&](const AddedToken& token) { return token.id < num_pieces(); });
  return tokens;
}
const std::vector<std::pair<std::string, std::string>>& Tokenizer::token_roles() const {
  return impl_->roles;
}
SpaceMarks Tokenizer::space_marks() const { return impl_->marks; }

}  // namespace facet
