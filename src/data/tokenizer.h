// The tokenizer of a model directory plus the tokens that mark images.
//
// From tokenizer.model (SentencePiece) come the ids of Transformers' LlamaTokenizer: text is split
// at added tokens, and each piece between them is encoded separately, with its own leading space
// mark (legacy: true) or, where the directory says so, with one mark at the begin of the text
// (legacy: false). From tokenizer.json come those of the tokenizers library (tokenizer_json.h).
// Where a directory has both, tokenizer.model is read.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/added_tokens.h"
#include "data/prompt_style.h"
#include "data/tokenizer_files.h"

namespace facet {

// "tokenizer.model" or "tokenizer.json", the file of the directory that is read; "" if there is
// none.
std::string tokenizer_file(const std::string& directory);

// Whether the files beside it name a token for padding.
bool names_pad_token(const std::string& directory);

class Tokenizer {
 public:
  // Reads tokenizer_file() and the JSON files beside it (tokenizer_files.h); then adds
  // `### Image:` and `<image>`, in this order, at the end of the vocabulary, with kVisualChat also
  // an unused `<PAD>` if the files name no token for padding. A token that the directory already
  // has keeps its id. Ids that cannot be are kConfig.
  Tokenizer(const std::string& directory, PromptStyle style);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // Ids of `text`, without BOS. Added tokens spelt out in the text become their ids.
  std::vector<int32_t> encode(std::string_view text) const;
  // True only if the text has more tokens than that; quick for a text of any length (text_bound.h).
  bool exceeds(std::string_view text, int64_t tokens) const;
  // Text of generated ids, without special tokens (of tokenizer.model: without any added ones) and
  // ids beyond the vocabulary: a model may have more rows than its tokenizer has tokens.
  std::string decode(std::span<const int32_t> ids) const;

  // Tokens of the file's model, added ones aside; a language model has at least as many rows.
  int64_t num_pieces() const;
  // Vocabulary size with the directory's own added tokens.
  int64_t base_vocab_size() const;
  int64_t vocab_size() const;             // V: including all added tokens
  std::optional<int32_t> bos_id() const;  // nothing: a text begins without
  int32_t eos_id() const;
  int32_t pad_id() const { return eos_id(); }
  // The id of a token that is found in a text before the model sees it; its text.
  std::optional<int32_t> added_token(std::string_view text) const;
  std::string text_of_added(int32_t id) const;
  int32_t image_header_id() const;  // `### Image:`
  int32_t image_id() const;         // `<image>`

  std::string file() const;  // path of the file that was read

  // All tokens outside the file's model in order of id: the content of added_tokens.json.
  std::vector<AddedToken> added_tokens() const;
  // All tokens at which text is split, with the model's begin, end and unknown token.
  std::vector<AddedToken> split_tokens() const;
  // ("pad_token", "<pad>"), ...: which token the files name for which role.
  const std::vector<std::pair<std::string, std::string>>& token_roles() const;
  SpaceMarks space_marks() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

inline constexpr std::string_view kSentencePieceFile = "tokenizer.model";
inline constexpr std::string_view kTokenizerJsonFile = "tokenizer.json";
inline constexpr std::string_view kImageHeaderText = "### Image:";
inline constexpr std::string_view kImageText = "<image>";

}  // namespace facet
