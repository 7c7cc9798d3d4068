// Tells of a long text, without tokenizing it, that it has more tokens than fit: tokenizing a text
// of 100 MB takes gigabytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace facet {

// A token stands for at most as many bytes as the longest one. Where the tokenizer keeps every byte
// of a text, as LLaMA's does, its length alone is therefore a bound. Others may shorten a text
// first: they join blanks, map characters to others (NFKC), or make one unknown token of any number
// of unknown characters; of these only the bytes count that surely remain.
class TextBound {
 public:
  TextBound() = default;
  // longest_special: bytes of the longest token outside the pieces.
  TextBound(const sentencepiece::SentencePieceProcessor& pieces, size_t longest_special);

  // The same of tokenizers of other kinds.
  struct TokenLengths {
    size_t longest = 1;            // bytes of a text that one token can stand for, blanks aside
    bool keep_all = false;         // no byte is left out, and none is part of an unknown token
    bool take_spaces = false;      // white space may belong to the token beside it
    std::string known_characters;  // unless keep_all: printable ASCII that has tokens
  };
  explicit TextBound(const TokenLengths& lengths);

  // True only if the text has more tokens than that; almost always when it has 100 times as many.
  // Reads no more of the text than it needs to.
  bool exceeds(std::string_view text, int64_t tokens) const;

 private:
  size_t longest_ = 1;              // bytes of a token
  bool keeps_all_ = false;          // every byte of a text, blanks aside
  std::array<bool, 256> remain_{};  // for each byte: whether it counts
};

}  // namespace facet
