// --input of facet generate: conversations as JSON.
#include "chat/generate_io.h"
#include "common/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  return fuzz::may_refuse([&] {
    const bool scored = size % 2 != 0;
    const auto tests =
        read_generation_tests(fuzz::put("questions.json", fuzz::text_of(data, size)),
                              scored ? QuestionForm::kWithChoices : QuestionForm::kOpen);
    std::vector<AnsweredTest> answers;
    for (const GenerationTest& test : tests) {
      fuzz::require(!test.rounds.empty(), "a conversation without a round");
      AnsweredTest& answered = answers.emplace_back();
      answered.test = static_cast<int64_t>(answers.size()) - 1;
      for (const GenerationRound& round : test.rounds) {
        fuzz::require(scored == !round.choices.empty(), "choices of the other form");
        answered.rounds.emplace_back().text = "yes, \"it\" is";
        answered.rounds.back().choices.resize(round.choices.size());
      }
    }
    for (const AnswerFormat format :
         {AnswerFormat::kCsv, AnswerFormat::kOriginalCsv, AnswerFormat::kJsonLines})
      write_answers(fuzz::scratch() + "/answers", format, tests, {{"", answers}});
  });
}
