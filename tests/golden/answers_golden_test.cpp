// Whole conversations with --compat visualchat against the answers of the original's two tools, in
// tokens, text and CSV; scripts/golden/answer_cases.py says how they were made.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <sstream>

#include "chat/conversation.h"
#include "io/file.h"
#include "kernels/cpu/backend.h"
#include "tests/golden/golden_file.h"

namespace facet::golden {
namespace {

std::vector<int32_t> ids_of(const JsonValue& list) {
  std::vector<int32_t> ids;
  for (const JsonValue id : list) ids.push_back(static_cast<int32_t>(id.as_int()));
  return ids;
}

GenerationTest test_of(const JsonValue& conversation) {
  GenerationTest test{std::string(conversation.at("name").as_string()), {}};
  for (const JsonValue entry : conversation.at("rounds")) {
    GenerationRound round{std::string(entry.at("question").as_string()),
                          std::string(entry.at("images").as_string()),
                          {}};
    std::istringstream paths(round.image_text);
    for (std::string path; paths >> path;) round.images.push_back(path);
    test.rounds.push_back(round);
  }
  return test;
}

// One run of a tool on all conversations.
struct ToolRun {
  ToolRun(const JsonValue& golden, const JsonValue& the_run) : run(the_run) {
    setup.tokenizer = std::make_unique<Tokenizer>("tests/golden/data", PromptStyle::kVisualChat);
    setup.config = config_of(run.at("model"));
    setup.preprocessor = std::make_unique<ImagePreprocessor>(
        ImagePreprocessConfig{}, setup.config.image_size, PixelRounding::kFp16);
    setup.model = std::make_unique<VisionLanguageModel>(setup.config, setup.table);
    setup.model->generate_as_original();
    set_parameters(setup.table, {});
    favour_end_token(golden.at("end_scale").as_double());
    prompt.emplace(*setup.tokenizer, PromptConfig{PromptStyle::kVisualChat,
                                                  std::string(golden.at("system").as_string()),
                                                  setup.config.image_tokens(), kMaxSeqLen});
    ConversationRules rules{.max_new_tokens = golden.at("longest_answer").as_int(),
                            .max_seq_len = kMaxSeqLen,
                            .max_image_pixels = 1 << 24};
    rules.image_numbers =
        run.at("tool").as_string() == "chat" ? ImageNumbers::kInText : ImageNumbers::kCountAtFirst;
    conversation.emplace(setup, *prompt, rules);
  }

  void favour_end_token(double scale) {
    const Tensor head = setup.table.find("lang_decoder.lm_head.weight")->value;
    float* row = head.f32() + setup.tokenizer->eos_id() * head.cols();
    std::transform(row, row + head.cols(), row,
                   [&](float value) { return static_cast<float>(value * scale); });
  }

  // Asks everything, and holds what the model is given and what it says against the original's.
  std::vector<Answer> compare(const JsonValue& expected, const GenerationTest& test) {
    struct Round {
      std::vector<int32_t> prompt, answer;
    };
    std::vector<Round> rounds(test.rounds.size());
    const auto choose = [&](int64_t number, std::span<const float> logits,
                            std::span<const int32_t> said) {
      Round& round = rounds[static_cast<size_t>(number)];
      if (round.answer.empty()) round.prompt.assign(said.begin(), said.end());
      round.answer.push_back(
          static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
      return round.answer.back();
    };
    const std::vector<Answer> answers = conversation->answers(context, test, choose);
    const int32_t end = setup.tokenizer->eos_id();
    std::vector<int32_t> history;
    for (size_t r = 0; r < rounds.size(); ++r) {
      const JsonValue round = expected.at("rounds").at(static_cast<int64_t>(r));
      const std::string where = fmt::format("{}, round {}", test.name, r);
      const std::vector<int32_t> prompt = ids_of(round.at("prompt"));
      const std::vector<int32_t> answer = ids_of(round.at("answer"));
      history.insert(history.end(), prompt.begin(), prompt.end());
      EXPECT_EQ(rounds[r].prompt, history) << where;
      EXPECT_EQ(rounds[r].answer, answer) << where;
      EXPECT_EQ(answers[r].text, round.at("text").as_string()) << where;
      history.insert(history.end(), answer.begin(), answer.end() - (answer.back() == end));
      history.push_back(end);
    }
    return answers;
  }

  static constexpr int64_t kMaxSeqLen = 4096;
  JsonValue run;
  ModelSetup setup;
  std::optional<PromptBuilder> prompt;
  std::optional<Conversation> conversation;
  CpuBackend ops{1};
  UnitHooks hooks;
  Arena arena{"test", int64_t{1} << 26};
  Context context{ops, arena, hooks};
};

TEST(GoldenAnswers, CompatAnswersAsTheOriginalsTools) {
  const JsonDocument golden = JsonDocument::read("tests/golden/answers.json");
  const std::string path = testing::TempDir() + "golden_answers.csv";
  int64_t conversations = 0, with_csv = 0;
  for (const JsonValue entry : golden.root().at("runs")) {
    SCOPED_TRACE(fmt::format("{}, mmca {}", entry.at("tool").as_string(),
                             entry.at("model").at("mmca").as_bool()));
    ToolRun run(golden.root(), entry);
    std::vector<GenerationTest> tests;
    std::vector<AnsweredTest> answered;
    for (const JsonValue conversation : entry.at("conversations")) {
      tests.push_back(test_of(conversation));
      const auto number = static_cast<int64_t>(answered.size());
      answered.push_back({number, 0, run.compare(conversation, tests.back())});
      ++conversations;
    }
    if (entry.at("csv").as_string().empty()) continue;  // chat.py writes none
    ++with_csv;
    write_answers(path, AnswerFormat::kOriginalCsv, tests, {{"", answered}});
    EXPECT_EQ(read_file(path, 1 << 20), entry.at("csv").as_string());
  }
  std::remove(path.c_str());
  EXPECT_EQ(conversations, 40);
  EXPECT_EQ(with_csv, 2);
}

}  // namespace
}  // namespace facet::golden
