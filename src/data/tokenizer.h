// The SentencePiece tokenizer of a LLaMA model directory plus the tokens that mark images, with the
// ids of Transformers' LlamaTokenizer: text is split at added tokens, and each piece between them
// is encoded separately, with its own leading space mark (legacy: true) or, where the directory
// says so, with one mark at the begin of the text (legacy: false).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/added_tokens.h"
#include "data/prompt_style.h"
#include "data/tokenizer_files.h"

namespace facet {

// Whether the files beside tokenizer.model name a token for padding.
bool names_pad_token(const std::string& directory);

class Tokenizer {
 public:
  // Reads DIRECTORY/tokenizer.model and the JSON files beside it (tokenizer_files.h); then adds
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
  // Text of generated ids, without added tokens and ids beyond the vocabulary: a model may have
  // more rows than its tokenizer has tokens.
  std::string decode(std::span<const int32_t> ids) const;

  int64_t num_pieces() const;  // of tokenizer.model; a model has at least as many rows
  // Vocabulary size with the directory's own added tokens.
  int64_t base_vocab_size() const;
  int64_t vocab_size() const;  // V: including all added tokens
  int32_t bos_id() const;
  int32_t eos_id() const;
  int32_t pad_id() const { return eos_id(); }
  int32_t image_header_id() const;  // `### Image:`
  int32_t image_id() const;         // `<image>`

  // All tokens outside tokenizer.model in order of id: the content of added_tokens.json.
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

inline constexpr std::string_view kImageHeaderText = "### Image:";
inline constexpr std::string_view kImageText = "<image>";

}  // namespace facet
