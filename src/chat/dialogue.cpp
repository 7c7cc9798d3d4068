#include "chat/dialogue.h"

#include <algorithm>

#include "chat/sampling.h"

namespace facet {

namespace {

void append_to(std::vector<int32_t>& ids, std::span<const int32_t> more) {
  ids.insert(ids.end(), more.begin(), more.end());
}

}  // namespace

ChooseToken choose_by_draws(const Options& options, const GenerationTest& test, int64_t number) {
  Sampler sampler({options.temperature, options.top_k, options.top_p, options.repetition_penalty});
  std::vector<RandomStream> draws;  // one per round
  for (size_t round = 0; round < test.rounds.size(); ++round)
    draws.push_back(draws_of(options.seed, test.name, number, static_cast<int64_t>(round)));
  return [sampler, draws](int64_t round, std::span<const float> logits,
                          std::span<const int32_t> said) mutable {
    return sampler.pick(logits, said, draws[static_cast<size_t>(round)]);
  };
}

std::optional<MicroBatch> Dialogue::ask(const GenerationRound& round) {
  if (pieces_->surely_too_long(round)) return {};
  return ask(round, pieces_->prompt_ids(round, place_), 0);
}

std::optional<MicroBatch> Dialogue::ask(const GenerationRound& round, std::span<const int32_t> ids,
                                        int64_t room) {
  append_to(said_, ids);
  append_to(unread_, ids);
  MicroBatch asked = starts_anew() ? whole(round) : unread(round);
  unread_.clear();
  length_ += pieces_->length(asked);
  place_.pass(round);
  answer_ids_.clear();
  answer_ = {};
  if (length_ + room > capacity_) return {};
  return asked;
}

// What the model has not read yet, and the round's images.
MicroBatch Dialogue::unread(const GenerationRound& round) {
  return pieces_->piece(std::move(unread_), round.images, RoundPieces::Pixels::kFromFiles);
}

// Everything said and shown, for a model that has forgotten it.
MicroBatch Dialogue::whole(const GenerationRound& round) {
  images_.insert(images_.end(), round.images.begin(), round.images.end());
  length_ = 0;
  return pieces_->piece(said_, images_, RoundPieces::Pixels::kFromFiles);
}

// Whether an answer that has just got its last token ends with it.
std::optional<StopReason> Dialogue::reason_to_stop() const {
  const ConversationRules& rules = pieces_->rules();
  if (!rules.stop_strings.empty() &&
      pieces_->stop_in(pieces_->tokenizer().decode(answer_ids_)) != std::string::npos)
    return StopReason::kStopString;
  if (static_cast<int64_t>(answer_ids_.size()) == rules.max_new_tokens)
    return StopReason::kMaxNewTokens;
  if (length_ == capacity_) return StopReason::kMaxSeqLen;
  return {};
}

// The original takes an answer over into the next round's prompt without a BOS at its begin.
void Dialogue::forget_bos_of_answer() {
  const auto answer = said_.end() - static_cast<std::ptrdiff_t>(answer_ids_.size());
  const std::optional<int32_t> bos = pieces_->tokenizer().bos_id();
  said_.erase(answer, std::find_if(answer, said_.end(), [&](int32_t id) { return id != bos; }));
}

void Dialogue::complete(StopReason reason) {
  if (starts_anew()) forget_bos_of_answer();
  said_.push_back(pieces_->end_id());
  unread_.push_back(pieces_->end_id());
  answer_.text = pieces_->text_of(answer_ids_);
  answer_.tokens = static_cast<int64_t>(answer_ids_.size());
  answer_.stop_reason = reason;
}

std::optional<int32_t> Dialogue::answer_on(std::span<const float> logits,
                                           const ChooseToken& choose) {
  const int32_t token = choose(place_.rounds_before - 1, logits, said_);
  if (pieces_->ends_answer(token)) {
    complete(StopReason::kEndToken);
    return {};
  }
  answer_ids_.push_back(token);
  said_.push_back(token);
  if (pieces_->rules().logprobs) answer_.logprobs.push_back(log_probability(logits, token));
  if (const std::optional<StopReason> reason = reason_to_stop()) {
    unread_.push_back(token);
    complete(*reason);
    return {};
  }
  ++length_;
  return token;
}

void Dialogue::take_as_answer(std::span<const int32_t> ids) {
  append_to(said_, ids);
  append_to(unread_, ids);
}

}  // namespace facet
