#include "chat/conversation.h"

#include <algorithm>

#include "base/timer.h"
#include "chat/sampling.h"
#include "data/image.h"

namespace facet {

namespace {

int64_t images_before(const GenerationTest& test, size_t round) {
  int64_t images = 0;
  for (size_t r = 0; r < round; ++r) images += static_cast<int64_t>(test.rounds[r].images.size());
  return images;
}

int64_t spliced_length(const MicroBatch& piece, int64_t image_tokens) {
  return piece.num_tokens() + piece.num_images() * (image_tokens - 1);
}

std::string without_outer_blanks(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

void append_to(std::vector<int32_t>& ids, std::span<const int32_t> more) {
  ids.insert(ids.end(), more.begin(), more.end());
}

}  // namespace

std::vector<int32_t> Conversation::prompt_ids(const GenerationTest& test, size_t round) const {
  return prompt_.round_prompt(test.rounds[round].question,
                              static_cast<int64_t>(test.rounds[round].images.size()),
                              static_cast<int64_t>(round), images_before(test, round));
}

// Those tokens with the round's images.
MicroBatch Conversation::piece(const GenerationTest& test, size_t round, std::vector<int32_t> ids,
                               Pixels pixels) const {
  const std::vector<std::string>& images = test.rounds[round].images;
  const auto num_images = static_cast<int64_t>(images.size());
  MicroBatch piece;
  piece.token_ids = std::move(ids);
  piece.labels.assign(piece.token_ids.size(), kIgnoredLabel);
  piece.sample_begin.push_back(static_cast<int32_t>(piece.token_ids.size()));
  piece.images_per_sample = {static_cast<int32_t>(num_images)};
  piece.dataset_of_sample = {0};
  piece.sample_ids = {0};
  piece.image_token_id = model_.tokenizer->image_id();
  const int64_t size = model_.preprocessor->image_size();
  piece.image_size = static_cast<int32_t>(size);
  piece.pixels.resize(static_cast<size_t>(num_images * 3 * size * size));
  if (pixels == Pixels::kFromFiles)
    for (size_t i = 0; i < images.size(); ++i) {
      ImagePixels sink(*model_.preprocessor,
                       piece.pixels.data() + static_cast<int64_t>(i) * 3 * size * size);
      load_image(images[i], rules_.max_image_pixels, sink);
    }
  return piece;
}

std::vector<Conversation::ChoiceTokens> Conversation::choices(const GenerationTest& test,
                                                              size_t number) const {
  const GenerationRound& round = test.rounds[number];
  std::vector<ChoiceTokens> choices;
  for (const std::string& text : round.choices) {
    const TokenizedSample whole =
        prompt_.whole_round({round.question, text, static_cast<int64_t>(round.images.size())},
                            static_cast<int64_t>(number), images_before(test, number));
    const auto first = std::find_if(whole.labels.begin(), whole.labels.end(),
                                    [](int32_t label) { return label != kIgnoredLabel; });
    choices.push_back({whole.token_ids, static_cast<size_t>(first - whole.labels.begin()),
                       whole.token_ids.size() - 1});
  }
  return choices;
}

// The most tokens of an answer, its end token included.
int64_t Conversation::longest_answer(const GenerationTest& test, size_t round) const {
  if (!rules_.score) return rules_.max_new_tokens + 1;
  size_t longest = 0;
  for (const ChoiceTokens& choice : choices(test, round))
    longest = std::max(longest, choice.ids.size());
  const size_t prompt = prompt_ids(test, round).size();
  return static_cast<int64_t>(longest - std::min(longest, prompt)) + 1;
}

bool Conversation::surely_too_long(const GenerationRound& round) const {
  return prompt_.surely_too_long(round.question) ||
         std::any_of(round.choices.begin(), round.choices.end(),
                     [&](const std::string& text) { return prompt_.surely_too_long(text); });
}

// The most positions that the conversation can take.
int64_t Conversation::capacity(const GenerationTest& test) const {
  int64_t positions = 0;
  for (size_t r = 0; r < test.rounds.size(); ++r) {
    if (surely_too_long(test.rounds[r])) return rules_.max_seq_len;
    positions += spliced_length(piece(test, r, prompt_ids(test, r), Pixels::kBlank),
                                model_.config.image_tokens()) +
                 longest_answer(test, r);
  }
  return std::min(positions, rules_.max_seq_len);
}

bool Conversation::ends_answer(int32_t token) const {
  const std::vector<int32_t>& ends = model_.end_tokens;
  return token == prompt_.end_id() || token == model_.tokenizer->eos_id() ||
         std::find(ends.begin(), ends.end(), token) != ends.end();
}

size_t Conversation::stop_in(const std::string& text) const {
  size_t first = std::string::npos;
  for (const std::string& stop : rules_.stop_strings) first = std::min(first, text.find(stop));
  return first;
}

void Conversation::run_largest_pieces(Context& context, const GenerationTest& test) {
  const int64_t most = capacity(test);
  for (size_t round = 0; round < test.rounds.size(); ++round) {
    if (surely_too_long(test.rounds[round])) break;
    MicroBatch prompt = piece(test, round, prompt_ids(test, round), Pixels::kBlank);
    const int64_t room = most - spliced_length(prompt, model_.config.image_tokens());
    if (room < 0) continue;  // such a round is never answered
    prompt.token_ids.insert(prompt.token_ids.end(), static_cast<size_t>(room),
                            model_.tokenizer->eos_id());
    prompt.labels.resize(prompt.token_ids.size(), kIgnoredLabel);
    prompt.sample_begin.back() = static_cast<int32_t>(prompt.token_ids.size());
    Decoding(*model_.model, context, most).append(prompt);
  }
}

// ---- answering

// Appends the round's question, after what is not in the cache yet, with room left for that many
// tokens more. Returns the logits of the last position; nullptr: it does not fit.
const std::vector<float>* Conversation::ask(Dialogue& dialogue, const GenerationTest& test,
                                            size_t round, std::span<const int32_t> question,
                                            int64_t room) const {
  append_to(dialogue.said, question);
  append_to(dialogue.unsaid, question);
  const MicroBatch asked = piece(test, round, std::move(dialogue.unsaid), Pixels::kFromFiles);
  dialogue.unsaid.clear();
  const int64_t length =
      dialogue.decoding.length() + spliced_length(asked, model_.config.image_tokens());
  if (length + room > dialogue.capacity) return nullptr;
  return &dialogue.decoding.append(asked);
}

// Whether an answer that has just got its last token ends with it.
std::optional<StopReason> Conversation::reason_to_stop(std::span<const int32_t> answer,
                                                       const Dialogue& dialogue) const {
  if (!rules_.stop_strings.empty() &&
      stop_in(model_.tokenizer->decode(answer)) != std::string::npos)
    return StopReason::kStopString;
  if (static_cast<int64_t>(answer.size()) == rules_.max_new_tokens)
    return StopReason::kMaxNewTokens;
  if (dialogue.decoding.length() == dialogue.capacity) return StopReason::kMaxSeqLen;
  return {};
}

Answer Conversation::answer(Dialogue& dialogue, const std::vector<float>* logits, int64_t round,
                            const ChooseToken& choose) const {
  Answer answer;
  std::vector<int32_t> ids;
  std::optional<StopReason> reason;
  while (!reason) {
    const int32_t token = choose(round, *logits, dialogue.said);
    if (ends_answer(token)) {
      reason = StopReason::kEndToken;
      break;
    }
    ids.push_back(token);
    dialogue.said.push_back(token);
    if (rules_.logprobs) answer.logprobs.push_back(log_probability(*logits, token));
    reason = reason_to_stop(ids, dialogue);
    if (reason)
      dialogue.unsaid.push_back(token);
    else
      logits = &dialogue.decoding.append_token(token);
  }
  dialogue.said.push_back(prompt_.end_id());
  dialogue.unsaid.push_back(prompt_.end_id());
  const std::string text = model_.tokenizer->decode(ids);
  answer.text = without_outer_blanks(text.substr(0, stop_in(text)));
  answer.tokens = static_cast<int64_t>(ids.size());
  answer.stop_reason = *reason;
  return answer;
}

std::vector<Answer> Conversation::answers(Context& context, const GenerationTest& test,
                                          const ChooseToken& choose) {
  const int64_t most = capacity(test);
  Dialogue dialogue{Decoding(*model_.model, context, most), most, {}, {}};
  std::vector<Answer> answers;
  for (size_t round = 0; round < test.rounds.size(); ++round) {
    if (surely_too_long(test.rounds[round])) break;
    const Timer timer;
    const std::vector<float>* logits = ask(dialogue, test, round, prompt_ids(test, round), 0);
    if (logits == nullptr) break;
    answers.push_back(answer(dialogue, logits, static_cast<int64_t>(round), choose));
    answers.back().seconds = timer.seconds();
  }
  answers.resize(test.rounds.size());
  return answers;
}

// ---- scoring

// Of tokens that are all in the cache up to `begin`; `logits`: those of the position before it.
ChoiceScore Conversation::score(Decoding& decoding, const std::vector<float>& logits,
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
size_t Conversation::common_tokens(const std::vector<ChoiceTokens>& choices) {
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

// Nothing if the longest choice no longer fits.
std::optional<Answer> Conversation::score_round(Dialogue& dialogue, const GenerationTest& test,
                                                size_t round) const {
  const Timer timer;
  const std::vector<ChoiceTokens> of_round = choices(test, round);
  const size_t common = common_tokens(of_round);
  size_t longest = 0;
  for (const ChoiceTokens& choice : of_round) longest = std::max(longest, choice.ids.size());
  const std::vector<float>* logits =
      ask(dialogue, test, round, std::span(of_round.front().ids).first(common),
          static_cast<int64_t>(longest - common));
  if (logits == nullptr) return {};
  const std::vector<float> after_question = *logits;
  const int64_t asked = dialogue.decoding.length();
  Answer answer;
  for (const ChoiceTokens& choice : of_round) {
    answer.choices.push_back(score(dialogue.decoding, after_question, choice, common));
    dialogue.decoding.rewind(asked);
  }
  const auto likeliest = std::max_element(
      answer.choices.begin(), answer.choices.end(),
      [](const ChoiceScore& a, const ChoiceScore& b) { return a.logprob < b.logprob; });
  const auto best = static_cast<size_t>(likeliest - answer.choices.begin());
  answer.text = test.rounds[round].choices[best];
  answer.tokens = likeliest->tokens;
  answer.stop_reason = StopReason::kChosen;
  append_to(dialogue.unsaid, std::span(of_round[best].ids).subspan(common));
  answer.seconds = timer.seconds();
  return answer;
}

std::vector<Answer> Conversation::scores(Context& context, const GenerationTest& test) {
  const int64_t most = capacity(test);
  Dialogue dialogue{Decoding(*model_.model, context, most), most, {}, {}};
  std::vector<Answer> answers;
  for (size_t round = 0; round < test.rounds.size(); ++round) {
    if (surely_too_long(test.rounds[round])) break;
    const std::optional<Answer> answer = score_round(dialogue, test, round);
    if (!answer) break;
    answers.push_back(*answer);
  }
  answers.resize(test.rounds.size());
  return answers;
}

}  // namespace facet
