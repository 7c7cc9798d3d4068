// Tokens outside a tokenizer's own model: spelt out in a text they become one id each, whatever the
// model would make of their letters.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "data/text_table.h"

namespace facet {

// As in tokenizer_config.json; `text` is `content` there.
struct AddedToken {
  std::string text;
  int32_t id = -1;
  bool lstrip = false, rstrip = false;  // takes the white space before or after it along
  bool single_word = false;             // only where no letter touches it
  bool normalized = false;              // no effect here; kept for exports
  bool special = true;
};

// What Python's str.strip() leaves of a text in UTF-8.
std::string_view without_outer_spaces(std::string_view text);

class AddedTokens {
 public:
  void add(AddedToken token);  // of a new text
  void make_special(std::string_view text);
  const AddedToken* find(std::string_view text) const {  // nullptr: none
    return by_text_.find(text);
  }
  bool has_id(int32_t id) const { return ids_.contains(id); }
  std::vector<AddedToken> all() const;  // in order of id
  size_t longest() const;               // bytes of the longest text

  struct Part {
    std::string text;                   // what is between tokens, not empty; or the token's
    const AddedToken* token = nullptr;  // nullptr: text for the model
  };
  // Cuts a text at the tokens in it: the first to begin, of these the longest.
  std::vector<Part> split(std::string_view text) const;

 private:
  std::vector<std::unique_ptr<AddedToken>> tokens_;
  TextTable<AddedToken> by_text_;
  std::unordered_set<int32_t> ids_;
};

}  // namespace facet
