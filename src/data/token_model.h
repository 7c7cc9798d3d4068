// The vocabulary of a model directory and how a text becomes ids of it: from tokenizer.model
// (SentencePiece) or from tokenizer.json. What is the same for both, roles of tokens and those that
// mark images, is Tokenizer's.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/added_tokens.h"
#include "data/text_bound.h"
#include "data/tokenizer_files.h"

namespace facet {

class TokenModel {
 public:
  virtual ~TokenModel() = default;

  virtual int64_t size() const = 0;  // added tokens aside
  virtual std::optional<int32_t> find(std::string_view text) const = 0;
  virtual std::string text_of(int32_t id) const = 0;

  // Tokens that the model itself names for a role; nothing: none.
  struct Roles {
    std::optional<std::string> unknown, begin, end;
  };
  virtual Roles roles() const = 0;
  // Whether a text begins with the begin token.
  virtual bool opens_with_begin() const = 0;

  // After the last token is added, before the first text. The tokens must outlive the model.
  virtual void set_added_tokens(const AddedTokens& added) = 0;
  // Ids of a text, without begin and end token; added tokens spelt out in it become their ids. A
  // text that cannot be tokenized is kBadData.
  virtual std::vector<int32_t> encode(std::string_view text) const = 0;
  virtual std::string decode(std::span<const int32_t> ids) const = 0;
  virtual TextBound bound() const = 0;
};

// DIRECTORY/tokenizer.model. kConfig, kBadData.
std::unique_ptr<TokenModel> open_sentencepiece(const std::string& directory, SpaceMarks marks);
// DIRECTORY/tokenizer.json (tokenizer_json.h). kConfig.
std::unique_ptr<TokenModel> open_tokenizer_json(const std::string& directory);

}  // namespace facet
