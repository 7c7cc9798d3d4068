// What the model said in one round of a conversation, and how the answer ended.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace facet {

enum class StopReason : uint8_t {
  kEndToken,      // the model ended it
  kStopString,    // one of --stop_strings came up
  kMaxNewTokens,  // it reached --max_new_tokens
  kMaxSeqLen,     // the conversation reached --max_seq_len, perhaps before the first token
  kChosen,        // it is one of the round's choices, the likeliest (--score)
  kInterrupted,   // whoever asked did not want to hear more (facet chat)
};
// "end_token", "stop_string", "max_new_tokens", "max_seq_len", "chosen", "interrupted".
const char* name_of(StopReason reason);
// Throws Error(kBadData) if there is no such reason.
StopReason stop_reason_from_name(std::string_view name);

// How likely an answer is that was given: the sum of its tokens' log-probabilities (natural
// logarithm), without the end token's.
struct ChoiceScore {
  double logprob = 0;
  int64_t tokens = 0;
};

struct Answer {
  std::string text;    // without blanks at its ends
  int64_t tokens = 0;  // generated or, of a choice, scored; without the end token
  double seconds = 0;  // from the round's prompt to the answer's last token
  StopReason stop_reason = StopReason::kMaxSeqLen;
  std::vector<double> logprobs;      // of its tokens by the model's own logits; if asked for
  std::vector<ChoiceScore> choices;  // of the round's choices, with --score
};

}  // namespace facet
