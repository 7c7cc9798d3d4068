#include "chat/sample_questions.h"

#include <algorithm>

#include "base/check.h"
#include "chat/conversation.h"
#include "data/image.h"
#include "train/data_setup.h"

namespace facet {

namespace {

ConversationRules rules_of(const Options& options) {
  const int64_t most = options.max_out_tokens;
  return {.max_new_tokens = options.max_new_tokens,
          .max_seq_len = most > 0 ? std::min(most, options.max_seq_len) : options.max_seq_len,
          .max_image_pixels = options.max_image_pixels,
          .stop_strings = options.stop_strings};
}

std::vector<std::vector<Question>> questions_in(const std::vector<GenerationTest>& tests) {
  std::vector<std::vector<Question>> questions;
  for (const GenerationTest& test : tests) {
    std::vector<Question>& rounds = questions.emplace_back();
    for (const GenerationRound& round : test.rounds)
      rounds.push_back({round.question, round.images});
  }
  return questions;
}

class SampleQuestions : public Questions {
 public:
  SampleQuestions(const Options& options, ModelSetup& model)
      : options_(options),
        rules_(rules_of(options)),
        tests_(read_generation_tests(options.sample_prompts, QuestionForm::kOpen)),
        questions_(questions_in(tests_)),
        prompt_(make_prompt_builder(options, model)),
        pieces_(model, *prompt_, rules_),
        conversation_(model, *prompt_, rules_) {
    check_lengths();
  }

  size_t tests() const override { return tests_.size(); }
  const std::string& name(size_t test) const override { return tests_[test].name; }
  const std::vector<Question>& rounds(size_t test) const override { return questions_[test]; }

  void check_images() const override;
  void run_largest_passes(Context& context, size_t test) const override {
    conversation_.run_largest_pieces(context, tests_[test]);
  }
  std::vector<SampledAnswer> answers(Context& context, size_t test) const override;

 private:
  void check_lengths() const;
  int64_t shortest(const GenerationTest& test) const;

  const Options& options_;
  const ConversationRules rules_;
  const std::vector<GenerationTest> tests_;
  const std::vector<std::vector<Question>> questions_;
  const std::unique_ptr<PromptBuilder> prompt_;
  const RoundPieces pieces_;
  mutable Conversation conversation_;
};

// The positions of a conversation in which every answer is only its end token.
int64_t SampleQuestions::shortest(const GenerationTest& test) const {
  int64_t positions = 0;
  RoundPlace place;
  for (const GenerationRound& round : test.rounds) {
    if (pieces_.surely_too_long(round)) return rules_.max_seq_len + 1;
    positions += place.rounds_before > 0;  // the end of the answer before it
    positions += pieces_.length(
        pieces_.piece(pieces_.prompt_ids(round, place), round.images, RoundPieces::Pixels::kBlank));
    place.pass(round);
  }
  return positions;
}

void SampleQuestions::check_lengths() const {
  std::string too_long;
  for (const GenerationTest& test : tests_) {
    const int64_t least = shortest(test);
    if (least >= rules_.max_seq_len)
      too_long += fmt::format("\n  test {}: {} or more", test.name, least);
  }
  CHECK(
      too_long.empty(), ExitCode::kConfig,
      "--sample_prompts {}: questions leave no room for an answer in {} tokens (--max_out_tokens, "
      "--max_seq_len); images count too:{}",
      options_.sample_prompts, rules_.max_seq_len, too_long);
}

void SampleQuestions::check_images() const {
  check_images_are_there(tests_);
  for (const GenerationTest& test : tests_)
    for (const GenerationRound& round : test.rounds)
      for (const std::string& image : round.images)
        static_cast<void>(load_image(image, options_.max_image_pixels));
}

std::vector<SampledAnswer> SampleQuestions::answers(Context& context, size_t test) const {
  std::vector<SampledAnswer> sampled;
  for (const Answer& answer :
       conversation_.answers(context, tests_[test], choose_by_draws(options_, tests_[test], 0)))
    sampled.push_back({answer.text, answer.tokens, answer.seconds, name_of(answer.stop_reason)});
  return sampled;
}

}  // namespace

std::unique_ptr<Questions> open_sample_questions(const Options& options, ModelSetup& model) {
  return std::make_unique<SampleQuestions>(options, model);
}

}  // namespace facet
