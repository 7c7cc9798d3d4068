// One conversation with the model: questions with images in, answers out.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "chat/answer.h"
#include "chat/generate_io.h"
#include "data/prompt.h"
#include "train/model_setup.h"

namespace facet {

struct ConversationRules {
  int64_t max_new_tokens = 0;  // of an answer
  int64_t max_seq_len = 0;     // of the whole conversation, image tokens included
  int64_t max_image_pixels = 0;
  std::vector<std::string> stop_strings = {};  // an answer ends before the first of them
  bool logprobs = false;                       // of each token of an answer
  bool score = false;                          // the rounds' choices, instead of answering freely
};

// Chooses the next token of an answer from its logits (V). `said`: the tokens of the conversation
// so far, an <image> token for each image.
using ChooseToken = std::function<int32_t(int64_t round, std::span<const float> logits,
                                          std::span<const int32_t> said)>;

class Conversation {
 public:
  // The arguments must outlive the conversation.
  Conversation(ModelSetup& model, const PromptBuilder& prompt, ConversationRules rules)
      : model_(model), prompt_(prompt), rules_(std::move(rules)) {}

  // One answer per round. A round whose prompt no longer fits into max_seq_len ends the
  // conversation: answers from there on are empty.
  std::vector<Answer> answers(Context& context, const GenerationTest& test,
                              const ChooseToken& choose);

  // How likely each choice of each round is after the question, token by token as in training. The
  // conversation goes on with the likeliest one, of equals the first. A round with a choice that
  // no longer fits ends it. A choice that is empty is Error(kBadData).
  std::vector<Answer> scores(Context& context, const GenerationTest& test);

  // For measuring: runs the largest pieces that answers() and scores() can run into, whatever the
  // answers: the prompt of every round as the end of a full conversation. Reads no image.
  void run_largest_pieces(Context& context, const GenerationTest& test);

 private:
  using Decoding = VisionLanguageModel::Decoding;
  // Whether pixels are loaded; measuring needs only their number.
  enum class Pixels : uint8_t { kFromFiles, kBlank };
  // A choice's tokens, its question's before them.
  struct ChoiceTokens {
    std::vector<int32_t> ids;
    size_t answer_begin = 0, answer_end = 0;  // without the end token
  };

  // What is under way of a conversation.
  struct Dialogue {
    Decoding decoding;
    int64_t capacity = 0;         // positions
    std::vector<int32_t> said;    // all tokens so far
    std::vector<int32_t> unsaid;  // the last of them, which are not in the cache yet
  };

  std::vector<int32_t> prompt_ids(const GenerationTest& test, size_t round) const;
  MicroBatch piece(const GenerationTest& test, size_t round, std::vector<int32_t> ids,
                   Pixels pixels) const;
  std::vector<ChoiceTokens> choices(const GenerationTest& test, size_t round) const;
  bool surely_too_long(const GenerationRound& round) const;
  int64_t longest_answer(const GenerationTest& test, size_t round) const;
  int64_t capacity(const GenerationTest& test) const;
  bool ends_answer(int32_t token) const;
  size_t stop_in(const std::string& text) const;  // npos: no stop string
  std::optional<StopReason> reason_to_stop(std::span<const int32_t> answer,
                                           const Dialogue& dialogue) const;
  const std::vector<float>* ask(Dialogue& dialogue, const GenerationTest& test, size_t round,
                                std::span<const int32_t> question, int64_t room) const;
  Answer answer(Dialogue& dialogue, const std::vector<float>* logits, int64_t round,
                const ChooseToken& choose) const;
  static size_t common_tokens(const std::vector<ChoiceTokens>& choices);
  static ChoiceScore score(Decoding& decoding, const std::vector<float>& logits,
                           const ChoiceTokens& choice, size_t begin);
  std::optional<Answer> score_round(Dialogue& dialogue, const GenerationTest& test,
                                    size_t round) const;

  ModelSetup& model_;
  const PromptBuilder& prompt_;
  ConversationRules rules_;
};

}  // namespace facet
