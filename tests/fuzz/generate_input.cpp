// --input of facet generate: conversations as JSON.
#include "chat/generate_io.h"
#include "common/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  return fuzz::may_refuse([&] {
    const auto tests =
        read_generation_tests(fuzz::put("questions.json", fuzz::text_of(data, size)));
    std::vector<std::vector<std::string>> answers;
    for (const GenerationTest& test : tests) {
      fuzz::require(!test.rounds.empty(), "a conversation without a round");
      answers.emplace_back(test.rounds.size(), "yes, \"it\" is");
    }
    write_answers(fuzz::scratch() + "/answers.csv", tests, answers);
  });
}
