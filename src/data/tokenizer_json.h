// tokenizer.json, the file of Hugging Face's tokenizers library, as far as byte-pair encodings of
// these families need it:
//   LLaMA-2, Mistral  normalizer Prepend and Replace, or pre-tokenizer Metaspace; byte_fallback
//   LLaMA-3           pre-tokenizer Split by a pattern, then ByteLevel; ignore_merges
//   Qwen2             normalizer NFC, then as LLaMA-3
//   of LLaMA's form   Digits; ByteLevel with GPT-2's own pattern or with a space before the text
// Every component, member and value that is not known is refused (kConfig) with its place: a
// tokenizer that is read nearly right gives wrong ids.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/bpe.h"
#include "data/text_pattern.h"

namespace facet {

// What happens to a text between added tokens, in this order.
struct TextSteps {
  enum class Marks : uint8_t { kNone, kFirstPiece, kEveryPiece };

  // The normalizer: added tokens with `normalized` are looked for in what it gives.
  bool composes = false;         // NFC
  bool prepends_mark = false;    // U+2581 before the text, whatever it begins with
  bool replaces_spaces = false;  // by U+2581
  // The pre-tokenizer.
  bool metaspace = false;           // replaces spaces by U+2581
  Marks marks = Marks::kNone;       // and puts one before these, unless one is there
  bool cuts_at_marks = false;       // before each
  std::vector<TextCut> cuts;        // into words, one after the other
  bool prefixes_space = false;      // before each word that does not begin with one
  std::optional<TextCut> last_cut;  // of these
  bool byte_level = false;          // bytes as characters (byte_level.h)
};

struct TokenizerJson {
  TextSteps steps;
  Bpe::Settings bpe;
  std::optional<std::string> begin_token;  // that the post-processor puts before a text
  bool strips_first_space = false;         // from decoded text
};

TokenizerJson read_tokenizer_json(const std::string& path);

}  // namespace facet
