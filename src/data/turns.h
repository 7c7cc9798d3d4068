// The turns of a conversation: an array of {"from": "human", "value": text} and {"from": "gpt",
// "value": text}, one after the other, as LLaVA's files have it.
#pragma once

#include <cstdint>
#include <string_view>

#include "io/json.h"

namespace facet {

struct QuestionAndAnswer {
  std::string_view question;
  std::string_view answer;
};

// Member `conversations` of a record; bad unless it holds a question and an answer.
JsonValue turns_of(const JsonValue& record);

// Turns 2*round and 2*round + 1. Bad (JsonValue::reject) if a human does not ask or gpt does not
// answer: then question and answer would change places.
QuestionAndAnswer round_of(const JsonValue& turns, int64_t round);

// Checks the role of turn `index` and returns its text.
std::string_view turn_text(const JsonValue& turns, int64_t index);

}  // namespace facet
