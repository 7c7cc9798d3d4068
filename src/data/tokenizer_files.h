// What the JSON files of a model directory say about tokens: tokenizer_config.json,
// special_tokens_map.json, added_tokens.json and tokenizer.json, as Transformers'
// LlamaTokenizer.from_pretrained() reads them. Beside tokenizer.model all are optional. kConfig.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/added_tokens.h"

namespace facet {

// Which pieces of a text between added tokens get a space mark in front.
enum class SpaceMarks : uint8_t {
  kEveryPiece,  // legacy: true, and LLaMA-2's tokenizer.json
  kFirstPiece,  // legacy: false: only the first of the text
  kNone,        // legacy: false and add_prefix_space: false
};

struct TokenizerFiles {
  // Tokens with their ids, in order of id; also of ids that the model has. From
  // added_tokens_decoder if tokenizer_config.json has it, else from added_tokens.json and then
  // tokenizer.json. Without tokenizer.model those of tokenizer.json go before the others'.
  struct Placed {
    AddedToken token;
    std::string place;  // where it stands, for messages
  };
  std::vector<Placed> placed;
  // Tokens that are named for a role ("pad_token", "additional_special_tokens", ...), without ids,
  // in the order in which Transformers appends those that the vocabulary lacks.
  struct Named {
    std::string role;
    AddedToken token;
  };
  std::vector<Named> named;
  SpaceMarks marks = SpaceMarks::kEveryPiece;  // of tokenizer.model
  std::optional<bool> adds_begin;              // add_bos_token; nothing: the model's own rule

  std::optional<std::string> text_of(std::string_view role) const;  // of its first token
  std::string identity() const;  // all that decides about ids, as text; "" if there are no files
};

TokenizerFiles read_tokenizer_files(const std::string& directory);

}  // namespace facet
