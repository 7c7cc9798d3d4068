// What the rounds of a conversation put into the model: their tokens and images, and how many
// positions they take. It knows nothing of what has been said.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "chat/generate_io.h"
#include "data/prompt.h"
#include "train/model_setup.h"

namespace facet {

// The text without blanks and line breaks at its ends.
std::string without_outer_blanks(const std::string& text);

struct ConversationRules {
  int64_t max_new_tokens = 0;  // of an answer
  int64_t max_seq_len = 0;     // of the whole conversation, image tokens included
  int64_t max_image_pixels = 0;
  std::vector<std::string> stop_strings = {};  // an answer ends before the first of them
  bool logprobs = false;                       // of each token of an answer
  bool score = false;                          // the rounds' choices, instead of answering freely
  // With --compat visualchat: how the images of a round are numbered.
  ImageNumbers image_numbers = ImageNumbers::kCountAtFirst;
};

// Where a round stands: how many rounds and how many images come before it.
struct RoundPlace {
  int64_t rounds_before = 0, images_before = 0;

  void pass(const GenerationRound& round) {
    ++rounds_before;
    images_before += static_cast<int64_t>(round.images.size());
  }
};

// The tokens of a choice, its question's before them.
struct ChoiceTokens {
  std::vector<int32_t> ids;
  size_t answer_begin = 0, answer_end = 0;  // without the end token
};

// Does the work; an Error in it names the test.
template <typename Work>
void naming(const GenerationTest& test, const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    fail(error.code(), "test {}: {}", test.name, error.what());
  }
}

class RoundPieces {
 public:
  // Whether pixels are loaded; measuring needs only their number.
  enum class Pixels : uint8_t { kFromFiles, kBlank };

  // The arguments must outlive the pieces.
  RoundPieces(ModelSetup& model, const PromptBuilder& prompt, ConversationRules rules)
      : model_(model), prompt_(prompt), rules_(std::move(rules)) {}

  const ConversationRules& rules() const { return rules_; }
  const Tokenizer& tokenizer() const { return *model_.tokenizer; }
  VisionLanguageModel& model() const { return *model_.model; }
  // Whether every round gives the model the whole conversation anew, as the original does: there an
  // image of a later round changes the places of the earlier ones, and what rows before them read.
  bool starts_anew() const { return model_.config.compat_visualchat; }

  // Everything in the round before its answer.
  std::vector<int32_t> prompt_ids(const GenerationRound& round, RoundPlace place) const;
  // Those tokens, among which an <image> token stands for each image, as a micro-batch of one
  // sample without labels.
  MicroBatch piece(std::vector<int32_t> ids, std::span<const std::string> images,
                   Pixels pixels) const;
  // The positions that a piece takes.
  int64_t length(const MicroBatch& piece) const;
  std::vector<ChoiceTokens> choices(const GenerationRound& round, RoundPlace place) const;
  // Whether the round surely has more than max_seq_len tokens; quick for a text of any length.
  bool surely_too_long(const GenerationRound& round) const;
  // The most positions that a conversation of those rounds can take.
  int64_t capacity(const GenerationTest& test) const;
  // For measuring: the largest pieces that the conversation can put into the model, whatever the
  // answers: the prompt of every round as the end of a full conversation. Reads no image.
  void for_largest_pieces(const GenerationTest& test,
                          const std::function<void(const MicroBatch&)>& body) const;

  int32_t end_id() const { return prompt_.end_id(); }  // stands behind each answer
  bool ends_answer(int32_t token) const;
  // npos: there is no stop string in it.
  size_t stop_in(const std::string& text) const;
  // An answer's text, up to a stop string and, as the original leaves them, but with --compat
  // visualchat without blanks at its ends.
  std::string text_of(std::span<const int32_t> answer) const;

 private:
  int64_t longest_answer(const GenerationRound& round, RoundPlace place) const;

  ModelSetup& model_;
  const PromptBuilder& prompt_;
  ConversationRules rules_;
};

}  // namespace facet
