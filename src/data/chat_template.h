// The forms in which chat models write a conversation. A form is a row of texts that stand around
// system text, questions and answers; what a model learns is the answer with the text before it and
// the end token after it.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer.h"

namespace facet {

struct ChatTemplate {
  std::string_view name;
  // Tokens that the tokenizer must have; "" ends the list.
  std::array<std::string_view, 4> tokens;
  std::string_view before_system, after_system;
  bool system_in_question = false;  // behind before_question, instead of before it
  std::string_view before_question, after_question;
  std::string_view before_answer;  // the first text that the model writes
  std::string_view end_of_answer;  // a token; "": the tokenizer's EOS
  std::string_view after_answer;   // before the next question, if there is one
  bool trims = false;              // white space around questions and answers is left out
};

// "original", which is this program's own form and no row, and the names of the rows.
std::vector<std::string> chat_template_names();

// Whether the tokenizer has the tokens of a name's row, or one of its rows.
bool fits_template(std::string_view name, const Tokenizer& tokenizer);

// The row of a name: the first whose tokens the tokenizer has. kConfig if there is none.
const ChatTemplate& find_chat_template(std::string_view name, const Tokenizer& tokenizer);

}  // namespace facet
