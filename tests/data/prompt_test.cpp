#include "data/prompt.h"

#include <gtest/gtest.h>

#include "base/check.h"
#include "base/micro_batch.h"
#include "data/prompt_texts.h"
#include "golden.h"
#include "io/file.h"
#include "io/json.h"

namespace facet {
namespace {

constexpr int64_t kImageTokens = 10;  // S

struct Fixture {
  explicit Fixture(PromptStyle style, int64_t max_seq_len = 4096)
      : tokenizer(kGoldenDir, style),
        builder(tokenizer, {style, load_system_text(""), kImageTokens, max_seq_len}) {}
  Tokenizer tokenizer;
  PromptBuilder builder;
};

std::vector<int32_t> ids_of(const JsonValue& array) {
  std::vector<int32_t> ids;
  for (const JsonValue id : array) ids.push_back(static_cast<int32_t>(id.as_int()));
  return ids;
}

std::vector<Round> rounds_of(const JsonValue& array) {
  std::vector<Round> rounds;
  for (const JsonValue round : array)
    rounds.push_back({round.at("question").as_string(), round.at("answer").as_string(),
                      round.at("images").as_int()});
  return rounds;
}

int64_t spliced_length(const TokenizedSample& sample) {
  return static_cast<int64_t>(sample.token_ids.size()) + sample.num_images * (kImageTokens - 1);
}

std::string message_of(const std::vector<Round>& rounds, int64_t max_seq_len = 4096) {
  try {
    Fixture(PromptStyle::kCorrect, max_seq_len).builder.tokenize(rounds);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadData);
    return error.what();
  }
  return "";
}

TEST(Prompt, TokensAndLabelsAreTheGoldenOnes) {
  const JsonDocument golden = JsonDocument::read(kGoldenDir + "/prompts.json");
  Fixture correct(PromptStyle::kCorrect), compat(PromptStyle::kVisualChat);
  int64_t compared[2] = {0, 0};
  for (const JsonValue record : golden.root().at("samples")) {
    const bool is_compat = record.at("style").as_string() == "visualchat";
    SCOPED_TRACE(record.where());
    const TokenizedSample sample =
        (is_compat ? compat : correct).builder.tokenize(rounds_of(record.at("rounds")));
    EXPECT_EQ(sample.token_ids, ids_of(record.at("ids")));
    EXPECT_EQ(sample.labels, ids_of(record.at("labels")));
    ++compared[is_compat];
  }
  EXPECT_GE(compared[0], 7);
  EXPECT_GE(compared[1], 5);
}

TEST(Prompt, GenerationContinuesWhereTheAnswerStood) {
  for (const PromptStyle style : {PromptStyle::kCorrect, PromptStyle::kVisualChat}) {
    Fixture fixture(style);
    const std::vector<Round> rounds = {
        {"One?", "a red circle", 1}, {"Two?", "b", 0}, {"Three?", "c", 1}};
    const TokenizedSample sample = fixture.builder.tokenize(rounds);
    int64_t images = 0;
    size_t at = 0;
    for (size_t r = 0; r < rounds.size(); ++r) {
      const std::vector<int32_t> prompt = fixture.builder.round_prompt(
          rounds[r].question, rounds[r].num_images, static_cast<int64_t>(r), images);
      ASSERT_LE(at + prompt.size(), sample.token_ids.size());
      for (size_t i = 0; i < prompt.size(); ++i, ++at) {
        ASSERT_EQ(prompt[i], sample.token_ids[at]);
        ASSERT_EQ(sample.labels[at], kIgnoredLabel);
      }
      while (sample.labels[at] != fixture.tokenizer.eos_id())
        ASSERT_NE(sample.labels[at++], kIgnoredLabel);
      ++at;
      images += rounds[r].num_images;
    }
    EXPECT_EQ(at, sample.token_ids.size());
  }
}

TEST(Prompt, LongSamplesLoseWholeRoundsAndTheirImages) {
  const std::vector<Round> rounds = {{"One?", "1", 1}, {"Two?", "2", 0}, {"Three?", "3", 2}};
  Fixture unlimited(PromptStyle::kCorrect);
  std::vector<int64_t> lengths;
  for (size_t n = 1; n <= 3; ++n)
    lengths.push_back(spliced_length(unlimited.builder.tokenize(std::span(rounds).first(n))));
  for (size_t n = 1; n <= 3; ++n) {
    const TokenizedSample exact =
        Fixture(PromptStyle::kCorrect, lengths[n - 1]).builder.tokenize(rounds);
    EXPECT_EQ(exact.num_rounds, static_cast<int64_t>(n));
    EXPECT_EQ(exact.num_images, n == 3 ? 3 : 1);
    EXPECT_EQ(exact.labels.size(), exact.token_ids.size());
    if (n == 1) continue;
    const TokenizedSample shorter =
        Fixture(PromptStyle::kCorrect, lengths[n - 1] - 1).builder.tokenize(rounds);
    EXPECT_EQ(shorter.num_rounds, static_cast<int64_t>(n - 1));
  }
  EXPECT_NE(message_of(rounds, lengths[0] - 1).find("--max_seq_len"), std::string::npos);
}

// It is not tokenized, and the sample is the same as if they were.
TEST(Prompt, AnEndlessTextIsLeftOutLikeAnyThatIsTooLong) {
  std::string endless(2'000'000, 'a');
  for (size_t i = 0; i < endless.size(); i += 7) endless[i] = ' ';
  for (const PromptStyle style : {PromptStyle::kCorrect, PromptStyle::kVisualChat}) {
    const Fixture fixture(style, 500);
    const auto sample_of = [&](std::string_view question, std::string_view answer) {
      return fixture.builder.tokenize(
          std::vector<Round>{{"One?", "1", 1}, {question, answer, 1}, {"Three?", "3", 1}});
    };
    const std::string_view too_long = std::string_view(endless).substr(0, 3000);  // is tokenized
    EXPECT_FALSE(fixture.builder.surely_too_long(too_long));
    const TokenizedSample exact = sample_of("Two?", too_long);
    EXPECT_EQ(exact.num_rounds, 1);
    for (const TokenizedSample& cut : {sample_of("Two?", endless), sample_of(endless, "2")}) {
      EXPECT_EQ(cut.token_ids, exact.token_ids);
      EXPECT_EQ(cut.labels, exact.labels);
      EXPECT_EQ(cut.num_rounds, exact.num_rounds);
      EXPECT_EQ(cut.num_images, exact.num_images);
    }
  }
  EXPECT_NE(message_of({{endless, "a", 1}}, 500).find("2000001 bytes, which are more tokens"),
            std::string::npos);
  endless += '\xff';
  EXPECT_NE(message_of({{"q", endless, 1}}, 500).find("UTF-8"), std::string::npos);
}

TEST(Prompt, BadSamplesAreRefused) {
  EXPECT_EQ(message_of({{"fine", "fine", 1}}), "");
  EXPECT_NE(message_of({}).find("no question"), std::string::npos);
  EXPECT_NE(message_of({{"q", "", 0}}).find("answer is empty"), std::string::npos);
  EXPECT_NE(message_of({{"q", " \n\t", 0}}).find("answer is empty"), std::string::npos);
  EXPECT_NE(message_of({{"q <image>", "a", 1}}).find("<image>"), std::string::npos);
  EXPECT_NE(message_of({{"q", "a <image>", 1}}).find("<image>"), std::string::npos);
  for (const char* invalid :
       {"\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80", "a\x80"}) {
    EXPECT_NE(message_of({{invalid, "a", 0}}).find("UTF-8"), std::string::npos);
    EXPECT_NE(message_of({{"q", invalid, 0}}).find("UTF-8"), std::string::npos);
  }
}

TEST(PromptTexts, BuiltInTextsAndFilesThatReplaceThem) {
  const std::string system = load_system_text("");
  EXPECT_TRUE(system.ends_with(".\n\n"));
  EXPECT_EQ(system.find('\n'), system.size() - 2);
  const std::vector<std::string> questions = load_caption_questions("");
  EXPECT_EQ(questions.size(), 20u);
  for (const std::string& question : questions)
    EXPECT_EQ(question.find_first_of("\r\n"), std::string::npos);

  const std::string path = testing::TempDir() + "facet_prompt.txt";
  write_file(path, "First?\r\n\n  Second? \n");
  EXPECT_EQ(load_caption_questions(path), (std::vector<std::string>{"First?", "  Second?"}));
  EXPECT_EQ(load_system_text(path), "First?\r\n\n  Second?\n\n");
  write_file(path, "\n");
  EXPECT_EQ(load_system_text(path), "");
  EXPECT_THROW(load_caption_questions(path), Error);
  write_file(path, "\xff");
  EXPECT_THROW(load_system_text(path), Error);
}

}  // namespace
}  // namespace facet
