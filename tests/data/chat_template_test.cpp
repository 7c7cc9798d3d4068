// Conversations in the forms of chat models, against Transformers.
#include "data/chat_template.h"

#include <gtest/gtest.h>

#include <set>

#include "base/check.h"
#include "base/micro_batch.h"
#include "data/prompt.h"
#include "data/prompt_texts.h"
#include "golden.h"
#include "io/json.h"

namespace facet {
namespace {

constexpr int64_t kImageTokens = 10;  // S

struct Fixture {
  Fixture(std::string_view kind, std::string_view name, const std::string& system_text = "",
          int64_t max_seq_len = 4096)
      : tokenizer(fmt::format("{}/tokenizers/{}", kGoldenDir, kind), PromptStyle::kCorrect),
        builder(tokenizer, {PromptStyle::kCorrect, system_text, kImageTokens, max_seq_len,
                            std::string(name)}) {}
  Tokenizer tokenizer;
  PromptBuilder builder;
};

std::vector<Round> rounds_of(const JsonValue& array) {
  std::vector<Round> rounds;
  for (const JsonValue round : array)
    rounds.push_back({round.at("question").as_string(), round.at("answer").as_string(),
                      round.at("images").as_int()});
  return rounds;
}

// A case's ids, and its labels: the ids that the assistant says.
std::pair<std::vector<int32_t>, std::vector<int32_t>> expected_of(const JsonValue& record) {
  std::vector<int32_t> ids, labels;
  for (int64_t i = 0; i < record.at("ids").size(); ++i) {
    ids.push_back(static_cast<int32_t>(record.at("ids").at(i).as_int()));
    labels.push_back(record.at("said").at(i).as_int() == 1 ? ids.back() : kIgnoredLabel);
  }
  return {ids, labels};
}

TEST(ChatTemplate, IdsAndLabelsAreThoseOfTransformers) {
  const JsonDocument golden = JsonDocument::read(kGoldenDir + "/chat_templates.json");
  std::set<std::string> names;
  for (const JsonValue record : golden.root().at("cases")) {
    SCOPED_TRACE(record.where() + " " + record.get_string("template", ""));
    names.emplace(record.at("template").as_string());
    Fixture fixture(record.at("tokenizer").as_string(), record.at("template").as_string());
    const TokenizedSample sample =
        fixture.builder.tokenize(rounds_of(record.at("rounds")), ImageNumbers::kAfterEncoding,
                                 record.get_string("system", ""));
    const auto [ids, labels] = expected_of(record);
    EXPECT_EQ(sample.token_ids, ids);
    EXPECT_EQ(sample.labels, labels);
  }
  EXPECT_EQ(names.size() + 1, chat_template_names().size()) << "a template without a golden case";
}

// As a text with a newline at its end is read from a file.
TEST(ChatTemplate, TheRunsSystemTextHasNoWhiteSpaceAroundIt) {
  const std::vector<Round> rounds = {{"One?", "1", 0}};
  Fixture bare("qwen2", "chatml"), configured("qwen2", "chatml", system_text_of(" Be brief.\n"));
  EXPECT_EQ(configured.builder.tokenize(rounds).token_ids,
            bare.builder.tokenize(rounds, ImageNumbers::kAfterEncoding, "Be brief.").token_ids);
}

TEST(ChatTemplate, GenerationContinuesWhereTheAnswerStood) {
  const std::vector<Round> rounds = {{"One?", "a red circle", 1}, {"Two?", "b", 0}, {"3", "c", 2}};
  for (const auto& [kind, name] : {std::pair{"llama3", "llama3"},
                                   {"qwen2", "chatml"},
                                   {"llama2", "vicuna"},
                                   {"mistral", "mistral"}}) {
    SCOPED_TRACE(name);
    Fixture fixture(kind, name, "System.\n\n");
    const TokenizedSample sample = fixture.builder.tokenize(rounds);
    int64_t images = 0;
    size_t at = 0;
    for (size_t r = 0; r < rounds.size(); ++r) {
      for (const int32_t id : fixture.builder.round_prompt(rounds[r].question, rounds[r].num_images,
                                                           static_cast<int64_t>(r), images)) {
        ASSERT_EQ(id, sample.token_ids[at]);
        ASSERT_EQ(sample.labels[at++], kIgnoredLabel);
      }
      while (sample.labels[at] != fixture.builder.end_id())
        ASSERT_NE(sample.labels[at++], kIgnoredLabel);
      ++at;
      images += rounds[r].num_images;
    }
    EXPECT_EQ(at, sample.token_ids.size());
  }
}

TEST(ChatTemplate, LongSamplesLoseWholeRounds) {
  const std::vector<Round> rounds = {{"One?", "1", 1}, {"Two?", "2", 0}};
  const TokenizedSample whole = Fixture("qwen2", "chatml").builder.tokenize(rounds);
  const auto length = static_cast<int64_t>(whole.token_ids.size()) + kImageTokens - 1;
  EXPECT_EQ(Fixture("qwen2", "chatml", "", length).builder.tokenize(rounds).num_rounds, 2);
  EXPECT_EQ(Fixture("qwen2", "chatml", "", length - 1).builder.tokenize(rounds).num_rounds, 1);
}

TEST(ChatTemplate, OneOfAnotherModelIsRefused) {
  const auto refusal = [](const char* kind, const char* name) -> std::string {
    try {
      Fixture(kind, name);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kConfig);
      return error.what();
    }
    return "";
  };
  EXPECT_NE(refusal("qwen2", "llama3")
                .find("--chat_template llama3: tests/golden/data/tokenizers/qwen2/tokenizer.json "
                      "has no token <|start_header_id|>, <|end_header_id|>, <|eot_id|>"),
            std::string::npos);
  EXPECT_NE(refusal("llama2", "chatml").find("<|im_start|>, <|im_end|>"), std::string::npos);
}

}  // namespace
}  // namespace facet
