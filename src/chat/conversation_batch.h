// Conversations with the model held at the same time: one that has ended makes place for the next.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "chat/dialogue.h"

namespace facet {

class ConversationBatch {
 public:
  // A conversation to be held; `number` is the caller's.
  struct Start {
    int64_t number = 0;
    const GenerationTest* test = nullptr;
    ChooseToken choose;
  };
  // Nothing: there are no more.
  using Next = std::function<std::optional<Start>()>;
  using Finished = std::function<void(int64_t number, std::vector<Answer> answers)>;

  // For conversations that take at most those numbers of positions, each number as often as there
  // are conversations of it; at most `most` at the same time. The pieces must outlive the batch.
  ConversationBatch(const RoundPieces& pieces, std::vector<int64_t> capacities, int64_t most);

  // Holds all conversations; `finished` is told the answers of each, one per round, as soon as they
  // are complete (Conversation::answers). A prompt runs by itself, then one token of each
  // conversation together, so that a conversation's products have the rows that they would have
  // without the others.
  void hold(Context& context, const Next& next, const Finished& finished) const;

  // For measuring: runs the largest forwards that hold() can run into with those tests.
  void run_largest_forwards(Context& context,
                            const std::vector<const GenerationTest*>& tests) const;

 private:
  using Decoding = VisionLanguageModel::BatchDecoding;

  void run_a_token_of_each(Decoding& decoding) const;

  const RoundPieces& pieces_;
  std::vector<int64_t> largest_;  // capacities of the largest conversations, at most `most`
  int64_t pages_ = 0;             // for all of these
};

}  // namespace facet
