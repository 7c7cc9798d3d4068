// One conversation with the model: questions with images in, answers out.
#pragma once

#include <optional>
#include <vector>

#include "chat/dialogue.h"

namespace facet {

class Conversation {
 public:
  // The arguments must outlive the conversation.
  Conversation(ModelSetup& model, const PromptBuilder& prompt, ConversationRules rules)
      : pieces_(model, prompt, std::move(rules)) {}
  explicit Conversation(const RoundPieces& pieces) : pieces_(pieces) {}

  // One answer per round. A round whose prompt no longer fits into max_seq_len ends the
  // conversation: answers from there on are empty.
  std::vector<Answer> answers(Context& context, const GenerationTest& test,
                              const ChooseToken& choose);

  // How likely each choice of each round is after the question, token by token as in training. The
  // conversation goes on with the likeliest one, of equals the first. A round with a choice that
  // no longer fits ends it. A choice that is empty is Error(kBadData).
  std::vector<Answer> scores(Context& context, const GenerationTest& test);

  // For measuring: runs the largest pieces that answers() and scores() can run into, whatever the
  // answers: the prompt of every round, or with --compat visualchat all up to it, as the end of a
  // full conversation. Reads no image.
  void run_largest_pieces(Context& context, const GenerationTest& test);

 private:
  using Decoding = VisionLanguageModel::Decoding;

  // The logits after what the dialogue has asked.
  static const std::vector<float>& read(Decoding& decoding, const Dialogue& dialogue,
                                        const MicroBatch& asked);
  std::optional<Answer> score_round(Dialogue& dialogue, Decoding& decoding,
                                    const GenerationRound& round) const;

  RoundPieces pieces_;
};

}  // namespace facet
