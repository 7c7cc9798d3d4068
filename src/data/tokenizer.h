// The SentencePiece tokenizer of a LLaMA model directory plus the tokens that mark images, with the
// ids of Transformers' LlamaTokenizer(legacy=True): text is split at special tokens, and each piece
// between them is encoded separately, with its own leading space mark.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace facet {

// Whose prompts and token ids are reproduced (--compat).
enum class PromptStyle : uint8_t { kCorrect, kVisualChat };

class Tokenizer {
 public:
  // Reads DIRECTORY/tokenizer.model and, if it is there, DIRECTORY/added_tokens.json; then adds
  // `### Image:` and `<image>` (kVisualChat: and an unused `<PAD>`), in this order, at the end of
  // the vocabulary. A token that the directory already has keeps its id.
  Tokenizer(const std::string& directory, PromptStyle style);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // Ids of `text`, without BOS. Special tokens spelt out in the text become their ids.
  std::vector<int32_t> encode(std::string_view text) const;
  // True only if the text has more tokens than that; quick for a text of any length (text_bound.h).
  bool exceeds(std::string_view text, int64_t tokens) const;
  // Text of generated ids, without special tokens and ids beyond the vocabulary: a model may have
  // more rows than its tokenizer has tokens.
  std::string decode(std::span<const int32_t> ids) const;

  int64_t vocab_size() const;  // V: including added tokens
  // Vocabulary size without the tokens that the constructor added: rows of the model's embedding.
  int64_t base_vocab_size() const;
  int32_t bos_id() const;
  int32_t eos_id() const;
  int32_t pad_id() const { return eos_id(); }
  int32_t image_header_id() const;  // `### Image:`
  int32_t image_id() const;         // `<image>`

  struct AddedToken {
    std::string text;
    int32_t id;
  };
  // All tokens outside tokenizer.model in order of id: the content of added_tokens.json.
  const std::vector<AddedToken>& added_tokens() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

inline constexpr std::string_view kImageHeaderText = "### Image:";
inline constexpr std::string_view kImageText = "<image>";

}  // namespace facet
