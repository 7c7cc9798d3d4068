#include "chat/conversation.h"

#include <algorithm>

#include "base/timer.h"
#include "chat/sampling.h"

namespace facet {

void Conversation::run_largest_pieces(Context& context, const GenerationTest& test) {
  const int64_t most = pieces_.capacity(test);
  pieces_.for_largest_pieces(test, [&](const MicroBatch& prompt) {
    Decoding(pieces_.model(), context, most).append(prompt);
  });
}

const std::vector<float>& Conversation::read(Decoding& decoding, const Dialogue& dialogue,
                                             const MicroBatch& asked) {
  if (dialogue.starts_anew()) decoding.rewind(0);
  return decoding.append(asked);
}

std::vector<Answer> Conversation::answers(Context& context, const GenerationTest& test,
                                          const ChooseToken& choose) {
  const int64_t most = pieces_.capacity(test);
  Dialogue dialogue(pieces_, most);
  Decoding decoding(pieces_.model(), context, most);
  std::vector<Answer> answers;
  for (const GenerationRound& round : test.rounds) {
    const Timer timer;
    const std::optional<MicroBatch> asked = dialogue.ask(round);
    if (!asked) break;
    const std::vector<float>* logits = &read(decoding, dialogue, *asked);
    while (const std::optional<int32_t> token = dialogue.answer_on(*logits, choose))
      logits = &decoding.append_token(*token);
    answers.push_back(dialogue.answer());
    answers.back().seconds = timer.seconds();
  }
  answers.resize(test.rounds.size());
  return answers;
}

// ---- scoring

namespace {

// Of tokens that are all in the cache up to `begin`; `logits`: those of the position before it.
ChoiceScore score(VisionLanguageModel::Decoding& decoding, const std::vector<float>& logits,
                  const ChoiceTokens& choice, size_t begin) {
  ChoiceScore score;
  const std::vector<float>* now = &logits;
  for (size_t i = begin; i < choice.answer_end; ++i) {
    if (i >= choice.answer_begin) {
      score.logprob += log_probability(*now, choice.ids[i]);
      ++score.tokens;
    }
    if (i + 1 < choice.answer_end) now = &decoding.append_token(choice.ids[i]);
  }
  return score;
}

// The tokens with which all choices begin: the question, or a little less where a token spans its
// end.
size_t common_tokens(const std::vector<ChoiceTokens>& choices) {
  const ChoiceTokens& first = choices.front();
  size_t common = first.answer_begin;
  for (const ChoiceTokens& choice : choices) {
    common = std::min(common, choice.answer_begin);
    const auto differing = std::mismatch(
        first.ids.begin(), first.ids.begin() + static_cast<int64_t>(common), choice.ids.begin());
    common = static_cast<size_t>(differing.first - first.ids.begin());
  }
  return common;
}

}  // namespace

// Nothing if the longest choice no longer fits.
std::optional<Answer> Conversation::score_round(Dialogue& dialogue, Decoding& decoding,
                                                const GenerationRound& round) const {
  const Timer timer;
  const std::vector<ChoiceTokens> choices = pieces_.choices(round, dialogue.place());
  const size_t common = common_tokens(choices);
  size_t longest = 0;
  for (const ChoiceTokens& choice : choices) longest = std::max(longest, choice.ids.size());
  const std::optional<MicroBatch> asked = dialogue.ask(
      round, std::span(choices.front().ids).first(common), static_cast<int64_t>(longest - common));
  if (!asked) return {};
  const std::vector<float> after_question = read(decoding, dialogue, *asked);
  Answer answer;
  for (const ChoiceTokens& choice : choices) {
    answer.choices.push_back(score(decoding, after_question, choice, common));
    decoding.rewind(dialogue.length());
  }
  const auto likeliest = std::max_element(
      answer.choices.begin(), answer.choices.end(),
      [](const ChoiceScore& a, const ChoiceScore& b) { return a.logprob < b.logprob; });
  const auto best = static_cast<size_t>(likeliest - answer.choices.begin());
  answer.text = round.choices[best];
  answer.tokens = likeliest->tokens;
  answer.stop_reason = StopReason::kChosen;
  dialogue.take_as_answer(std::span(choices[best].ids).subspan(common));
  answer.seconds = timer.seconds();
  return answer;
}

std::vector<Answer> Conversation::scores(Context& context, const GenerationTest& test) {
  const int64_t most = pieces_.capacity(test);
  Dialogue dialogue(pieces_, most);
  Decoding decoding(pieces_.model(), context, most);
  std::vector<Answer> answers;
  for (const GenerationRound& round : test.rounds) {
    if (pieces_.surely_too_long(round)) break;
    const std::optional<Answer> answer = score_round(dialogue, decoding, round);
    if (!answer) break;
    answers.push_back(*answer);
  }
  answers.resize(test.rounds.size());
  return answers;
}

}  // namespace facet
