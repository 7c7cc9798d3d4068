// A conversation under way, round by round: what the model is to read next, and what it has said.
// It does not run the model, so any driver can: one conversation at a time or many in a batch. A
// copy is the conversation as it stood, to go back to.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "chat/answer.h"
#include "chat/round_pieces.h"
#include "options/options.h"

namespace facet {

// Chooses the next token of an answer from its logits (V). `said`: the tokens of the conversation
// so far, an <image> token for each image.
using ChooseToken = std::function<int32_t(int64_t round, std::span<const float> logits,
                                          std::span<const int32_t> said)>;

// Those that the options of sampling choose. Draws depend on the seed, the test's name, the round
// and the number of the answer: neither on other tests nor on the ranks.
ChooseToken choose_by_draws(const Options& options, const GenerationTest& test, int64_t number);

class Dialogue {
 public:
  // `capacity`: positions that the whole conversation may take. The pieces must outlive it.
  Dialogue(const RoundPieces& pieces, int64_t capacity) : pieces_(&pieces), capacity_(capacity) {}

  // The next round up to its answer, or those first tokens of it, behind what the model has not
  // read yet. Nothing: with room for that many tokens more it would not fit; the conversation has
  // ended.
  std::optional<MicroBatch> ask(const GenerationRound& round);
  std::optional<MicroBatch> ask(const GenerationRound& round, std::span<const int32_t> ids,
                                int64_t room);

  // Whether every round asks the whole conversation anew: what ask() returns then holds all rounds
  // so far with all their images, and before the model reads it, it must forget everything that it
  // has read (Decoding::rewind(0)).
  bool starts_anew() const { return pieces_->starts_anew(); }

  // Chooses a token of the answer, by the logits of the last position that was read. Returns the
  // token, which the model is to read next; nothing: the answer is complete.
  std::optional<int32_t> answer_on(std::span<const float> logits, const ChooseToken& choose);
  // Ends the answer where it is. The model has read all tokens that answer_on() returned.
  void interrupt() { complete(StopReason::kInterrupted); }
  // The answer to the last question, as far as it has come.
  const Answer& answer() const { return answer_; }
  std::span<const int32_t> answer_ids() const { return answer_ids_; }

  // Takes those tokens for the answer, end token included. They have not been read.
  void take_as_answer(std::span<const int32_t> ids);

  RoundPlace place() const { return place_; }
  int64_t length() const { return length_; }  // positions that the model has been given to read

 private:
  std::optional<StopReason> reason_to_stop() const;
  void complete(StopReason reason);
  MicroBatch unread(const GenerationRound& round);
  MicroBatch whole(const GenerationRound& round);
  void forget_bos_of_answer();

  const RoundPieces* pieces_;
  int64_t capacity_;
  int64_t length_ = 0;
  RoundPlace place_;                 // of the next round
  std::vector<int32_t> said_;        // all tokens so far
  std::vector<int32_t> unread_;      // the last of them, which the model has not read yet
  std::vector<std::string> images_;  // all so far, where each round starts anew
  std::vector<int32_t> answer_ids_;
  Answer answer_;
};

}  // namespace facet
