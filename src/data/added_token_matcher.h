// Finds added tokens in a text as the tokenizers library does: the first to begin, of these the
// longest; single_word ones only where neither neighbour belongs to a word; with the white space
// that lstrip and rstrip ask for.
#pragma once

#include <string_view>
#include <vector>

#include "data/added_tokens.h"
#include "data/text_table.h"

namespace facet {

class AddedTokenMatcher {
 public:
  // `spelling`: how the token stands in the texts; the token must outlive the matcher.
  void add(std::string_view spelling, const AddedToken& token);

  struct Part {
    std::string_view text;              // between tokens, not empty; or the token's
    const AddedToken* token = nullptr;  // nullptr: text for the model
  };
  std::vector<Part> split(std::string_view text) const;

 private:
  TextTable<const AddedToken> by_spelling_;
};

}  // namespace facet
