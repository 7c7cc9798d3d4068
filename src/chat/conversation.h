// One conversation with the model: questions with images in, answers out.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "chat/generate_io.h"
#include "data/prompt.h"
#include "train/model_setup.h"

namespace facet {

struct ConversationLimits {
  int64_t max_new_tokens = 0;  // of an answer
  int64_t max_seq_len = 0;     // of the whole conversation, image tokens included
  int64_t max_image_pixels = 0;
};

// Chooses the next token of an answer from its logits (V).
using ChooseToken = std::function<int32_t(int64_t round, const std::vector<float>& logits)>;

class Conversation {
 public:
  // The arguments must outlive the conversation.
  Conversation(ModelSetup& model, const PromptBuilder& prompt, const ConversationLimits& limits)
      : model_(model), prompt_(prompt), limits_(limits) {}

  // The answers of all rounds. A round whose prompt no longer fits into max_seq_len ends the
  // conversation: answers from there on are missing.
  std::vector<std::string> answers(Context& context, const GenerationTest& test,
                                   const ChooseToken& choose);

  // For measuring: runs the largest pieces that answers() can run into, whatever the answers: the
  // prompt of every round as the end of a full conversation. Reads no image.
  void run_largest_pieces(Context& context, const GenerationTest& test);

 private:
  // Whether pixels are loaded; measuring needs only their number.
  enum class Pixels : uint8_t { kFromFiles, kBlank };

  MicroBatch piece(const GenerationTest& test, size_t round, std::vector<int32_t> head,
                   Pixels pixels) const;
  int64_t capacity(const GenerationTest& test) const;
  bool ends_answer(int32_t token) const;
  std::string text_of(const std::vector<int32_t>& ids) const;

  ModelSetup& model_;
  const PromptBuilder& prompt_;
  ConversationLimits limits_;
};

}  // namespace facet
