// A tokenizer's directory of which the fuzzer writes one file.
#pragma once

#include <string>
#include <string_view>

#include "data/tokenizer.h"
#include "target.h"

namespace facet::fuzz {

// Reads the directory with `content` as the file `name` beside a sound tokenizer.model, and encodes
// and decodes with it.
inline void use_tokenizer_with(const std::string& name, std::string_view content) {
  static std::string has_model;  // the directory of the target that ran last
  if (has_model != scratch()) put("tokenizer.model", fixture("tests/golden/data/tokenizer.model"));
  has_model = scratch();
  put(name, content);
  const Tokenizer tokenizer(scratch(), PromptStyle::kVisualChat);
  std::string text = "<s> a <image> b";
  for (const AddedToken& token : tokenizer.added_tokens()) {
    require(token.id >= 0 && token.id < tokenizer.vocab_size(), "an id beyond the vocabulary");
    text += " " + token.text;
  }
  const std::vector<int32_t> ids = tokenizer.encode(text);
  for (const int32_t id : ids)
    require(id >= 0 && id < tokenizer.vocab_size(), "an id beyond the vocabulary");
  tokenizer.decode(ids);
}

}  // namespace facet::fuzz
