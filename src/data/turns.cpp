#include "data/turns.h"

namespace facet {

JsonValue turns_of(const JsonValue& record) {
  const JsonValue turns = record.at("conversations");
  if (!turns.is_array() || turns.size() < 2)
    turns.reject("expected an array of at least a question and an answer");
  return turns;
}

std::string_view turn_text(const JsonValue& turns, int64_t index) {
  const JsonValue turn = turns.at(index);
  const std::string_view from = turn.at("from").as_string();
  const std::string_view expected = index % 2 == 0 ? "human" : "gpt";
  if (from != expected)
    turns.reject(
        fmt::format("turn {} is from {}, expected {}: human asks and gpt answers, by turns", index,
                    from.substr(0, 40), expected));
  return turn.at("value").as_string();
}

QuestionAndAnswer round_of(const JsonValue& turns, int64_t round) {
  return {turn_text(turns, 2 * round), turn_text(turns, 2 * round + 1)};
}

}  // namespace facet
