#include "data/tokenizer.h"

#include <filesystem>

#include "base/check.h"
#include "data/token_model.h"

namespace facet {
namespace {

std::unique_ptr<TokenModel> open_model(const std::string& directory, const TokenizerFiles& files) {
  const std::string file = tokenizer_file(directory);
  if (file == kSentencePieceFile) return open_sentencepiece(directory, files.marks);
  if (file == kTokenizerJsonFile) return open_tokenizer_json(directory);
  const bool has_parts = std::filesystem::exists(directory + "/vocab.json");
  fail(ExitCode::kMissingInput, "{}/{}: there is no such file, nor a {}{}", directory,
       kSentencePieceFile, kTokenizerJsonFile,
       has_parts ? "; vocab.json and merges.txt alone are not read: save the tokenizer with "
                   "Transformers, which writes tokenizer.json"
                 : "");
}

}  // namespace

std::string tokenizer_file(const std::string& directory) {
  for (const std::string_view file : {kSentencePieceFile, kTokenizerJsonFile}) {
    std::error_code ignored;
    if (std::filesystem::exists(directory + "/" + std::string(file), ignored))
      return std::string(file);
  }
  return "";
}

bool names_pad_token(const std::string& directory) {
  return read_tokenizer_files(directory).text_of("pad_token").has_value();
}

struct Tokenizer::Impl {
  std::string directory, file;
  std::unique_ptr<TokenModel> model;
  AddedTokens added;
  TextBound bound;
  std::vector<std::pair<std::string, std::string>> roles;
  SpaceMarks marks = SpaceMarks::kEveryPiece;
  int64_t vocab_size = 0, base_vocab_size = 0;
  std::optional<int32_t> bos_id;
  int32_t eos_id = 0, image_header_id = 0, image_id = 0;

  void load(PromptStyle style);
  void place_roles(const TokenizerFiles& files);
  void place(const TokenizerFiles::Placed& placed);
  int32_t find_or_append(AddedToken token);
};

void Tokenizer::Impl::load(PromptStyle style) {
  file = tokenizer_file(directory);
  const TokenizerFiles files = read_tokenizer_files(directory);
  model = open_model(directory, files);
  marks = files.marks;
  vocab_size = model->size();
  for (const TokenizerFiles::Placed& placed : files.placed) place(placed);
  for (const TokenizerFiles::Named& named : files.named) {
    find_or_append(named.token);
    added.make_special(named.token.text);
    roles.emplace_back(named.role, named.token.text);
  }
  place_roles(files);
  base_vocab_size = vocab_size;
  image_header_id = find_or_append({.text = std::string(kImageHeaderText)});
  image_id = find_or_append({.text = std::string(kImageText)});
  if (style == PromptStyle::kVisualChat && !files.text_of("pad_token"))
    find_or_append({.text = "<PAD>"});
  model->set_added_tokens(added);
  bound = model->bound();
}

// The token that the files name for a role, or the model's own.
void Tokenizer::Impl::place_roles(const TokenizerFiles& files) {
  const TokenModel::Roles own = model->roles();
  const auto text_of = [&](const char* role, const std::optional<std::string>& of_model) {
    const std::optional<std::string> named = files.text_of(role);
    return named ? named : of_model;
  };
  if (const auto unknown = text_of("unk_token", own.unknown)) find_or_append({.text = *unknown});
  if (files.adds_begin.value_or(model->opens_with_begin())) {
    const auto begin = text_of("bos_token", own.begin);
    CHECK(begin, ExitCode::kConfig,
          "{}/tokenizer_config.json: add_bos_token is true, but no file names a bos_token",
          directory);
    bos_id = find_or_append({.text = *begin});
  }
  const auto end = text_of("eos_token", own.end);
  CHECK(end, ExitCode::kConfig,
        "{}: no file names an eos_token, the end of an answer; it belongs into "
        "tokenizer_config.json",
        directory);
  eos_id = find_or_append({.text = *end});
}

// A token that comes with its id.
void Tokenizer::Impl::place(const TokenizerFiles::Placed& placed) {
  const AddedToken& token = placed.token;
  if (token.id < model->size()) {
    CHECK(model->text_of(token.id) == token.text, ExitCode::kConfig,
          "{}: {} has id {}, which {} uses for another token", placed.place, token.text, token.id,
          file);
    return added.add(token);
  }
  CHECK(token.id == vocab_size, ExitCode::kConfig,
        "{}: {} has id {}, expected {}: ids must follow the vocabulary without gaps", placed.place,
        token.text, token.id, vocab_size);
  const std::optional<int32_t> piece = model->find(token.text);
  CHECK(!piece && added.find(token.text) == nullptr, ExitCode::kConfig,
        "{}: {} has id {}, but it is token {} already", placed.place, token.text, token.id,
        piece ? *piece : added.find(token.text)->id);
  added.add(token);
  ++vocab_size;
}

// A token that comes without an id: its id if the directory has it, else the next one.
int32_t Tokenizer::Impl::find_or_append(AddedToken token) {
  if (const AddedToken* known = added.find(token.text)) return known->id;
  const std::optional<int32_t> piece = model->find(token.text);
  token.id = piece ? *piece : static_cast<int32_t>(vocab_size++);
  const int32_t id = token.id;
  added.add(std::move(token));
  return id;
}

Tokenizer::Tokenizer(const std::string& directory, PromptStyle style)
    : impl_(std::make_unique<Impl>()) {
  impl_->directory = directory;
  impl_->load(style);
}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  return impl_->model->encode(text);
}

bool Tokenizer::exceeds(std::string_view text, int64_t tokens) const {
  return impl_->bound.exceeds(text, tokens);
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  return impl_->model->decode(ids);
}

int64_t Tokenizer::num_pieces() const { return impl_->model->size(); }
int64_t Tokenizer::base_vocab_size() const { return impl_->base_vocab_size; }
int64_t Tokenizer::vocab_size() const { return impl_->vocab_size; }
std::optional<int32_t> Tokenizer::bos_id() const { return impl_->bos_id; }
std::string Tokenizer::file() const { return impl_->directory + "/" + impl_->file; }
int32_t Tokenizer::eos_id() const { return impl_->eos_id; }
std::optional<int32_t> Tokenizer::added_token(std::string_view text) const {
  const AddedToken* token = impl_->added.find(text);
  return token == nullptr ? std::nullopt : std::optional(token->id);
}
std::string Tokenizer::text_of_added(int32_t id) const {
  for (const AddedToken& token : split_tokens())
    if (token.id == id) return token.text;
  fail(ExitCode::kInternal, "no added token has id {}", id);
}
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
