#include "data/text_bound.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <string>
#include <vector>

namespace facet {

namespace {

using Pieces = sentencepiece::SentencePieceProcessor;

std::vector<int> ids_of(const Pieces& pieces, std::string_view text) {
  std::vector<int> ids;
  return pieces.Encode({text.data(), text.size()}, &ids).ok() ? ids : std::vector<int>{};
}

bool is_piece(const Pieces& pieces, char c) {
  return pieces.PieceToId(std::string(1, c)) != pieces.unk_id();
}

// Without bytes as tokens, unknown characters that follow each other are one token.
bool knows_bytes(const Pieces& pieces) {
  for (int id = 0; id < pieces.GetPieceSize(); ++id)
    if (pieces.IsByte(id)) return true;
  return false;
}

// All of the library's mappings make an A of the full-width A, or of both an a.
bool maps_characters(const Pieces& pieces) {
  return ids_of(pieces, "\uFF21") == ids_of(pieces, "A");
}

bool joins_blanks(const Pieces& pieces) { return ids_of(pieces, "A  A") == ids_of(pieces, "A A"); }

}  // namespace

TextBound::TextBound(const Pieces& pieces, size_t longest_special) : longest_(longest_special) {
  for (int id = 0; id < pieces.GetPieceSize(); ++id)
    longest_ = std::max(longest_, pieces.IdToPiece(id).size());
  keeps_all_ = knows_bytes(pieces) && !maps_characters(pieces);
  for (size_t byte = 0; byte < remain_.size(); ++byte) {
    const bool printable = byte > 0x20 && byte < 0x7f;
    remain_[byte] = keeps_all_ || (printable && is_piece(pieces, static_cast<char>(byte)));
  }
  if (joins_blanks(pieces)) remain_[' '] = false;
}

TextBound::TextBound(const TokenLengths& lengths)
    : longest_(lengths.longest), keeps_all_(lengths.keep_all) {
  // No white space has a byte from 0xE4 on.
  const auto is_no_space = [](size_t byte) { return (byte > 0x20 && byte < 0x7f) || byte >= 0xE4; };
  if (keeps_all_)
    for (size_t byte = 0; byte < remain_.size(); ++byte)
      remain_[byte] = !lengths.take_spaces || is_no_space(byte);
  for (const char known : lengths.known_characters)
    remain_[static_cast<unsigned char>(known)] = true;
}

bool TextBound::exceeds(std::string_view text, int64_t tokens) const {
  int64_t room = 0;  // bytes that so many tokens can stand for
  if (__builtin_mul_overflow(tokens, static_cast<int64_t>(longest_), &room)) return false;
  const auto is_ascii = [&](size_t at) { return static_cast<unsigned char>(text[at]) < 0x80; };
  for (size_t i = 0; i < text.size(); ++i) {
    // An accent may join the letter before it to a character that nobody knows.
    const bool joins = !keeps_all_ && i + 1 < text.size() && !is_ascii(i + 1);
    if (remain_[static_cast<unsigned char>(text[i])] && !joins && room-- == 0) return true;
  }
  return false;
}

}  // namespace facet
