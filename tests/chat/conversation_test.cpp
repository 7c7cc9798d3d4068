// A conversation takes no more memory than run_largest_pieces() measures, whatever the answers.
#include "chat/conversation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "chat/conversation_batch.h"
#include "chat/sampling.h"
#include "kernels/cpu/backend.h"
#include "ops/null_backend.h"
#include "tests/chat/small_model.h"

namespace facet {
namespace {

const std::string kImagePath = "tests/golden/data/images/420.jpg";
const std::string kOtherImagePath = "tests/golden/data/images/rgb.png";

// The second round shows pictures, and fits only where the first answer was short.
GenerationTest pictures_later() {
  GenerationTest test{"t", {}};
  test.rounds.push_back({"Hello?", "", {}});
  test.rounds.push_back({"And these?", "", {kImagePath, kImagePath, kImagePath, kImagePath}});
  test.rounds.push_back({"Why?", "", {}});
  return test;
}

struct ConversationRig {
  explicit ConversationRig(const ConversationRules& limits,
                           PromptStyle style = PromptStyle::kCorrect)
      : setup(small_model(style)),
        prompt(*setup->tokenizer, {style, "", setup->config.image_tokens(), limits.max_seq_len}),
        pieces(*setup, prompt, limits),
        conversation(pieces) {}

  // Peak of the arena, and the answers, when every answer has `tokens` tokens at most.
  std::pair<int64_t, std::vector<Answer>> peak_with_answers_of(
      int64_t tokens, const GenerationTest& test = pictures_later()) {
    NullBackend ops;
    Arena arena("measured");
    Context context{ops, arena, hooks};
    int64_t round = 0, said = 0;
    const auto choose = [&](int64_t now, std::span<const float>, std::span<const int32_t>) {
      said = now == round ? said : 0;
      round = now;
      return said++ < tokens ? 5 : setup->tokenizer->eos_id();
    };
    auto answers = conversation.answers(context, test, choose);
    return {arena.peak(), answers};
  }

  std::unique_ptr<ModelSetup> setup;
  PromptBuilder prompt;
  UnitHooks hooks;
  RoundPieces pieces;
  Conversation conversation;
};

TEST(Conversation, MeasuredMemorySufficesWhateverTheAnswers) {
  ConversationRig rig({.max_new_tokens = 200, .max_seq_len = 230, .max_image_pixels = 1 << 24});
  NullBackend ops;
  Arena arena("measured");
  Context context{ops, arena, rig.hooks};
  rig.conversation.run_largest_pieces(context, pictures_later());
  size_t most_answers = 0, fewest_answers = 3;
  for (const int64_t tokens : {0, 1, 20, 60, 199, 200, 300}) {
    const auto [peak, answers] = rig.peak_with_answers_of(tokens);
    EXPECT_LE(peak, arena.peak()) << tokens;
    // A round that was asked has no answer's end of --max_seq_len before the first token.
    const auto asked =
        static_cast<size_t>(std::count_if(answers.begin(), answers.end(), [](const Answer& answer) {
          return answer.stop_reason != StopReason::kMaxSeqLen || answer.tokens > 0;
        }));
    most_answers = std::max(most_answers, asked);
    fewest_answers = std::min(fewest_answers, asked);
  }
  EXPECT_EQ(most_answers, 3u);
  EXPECT_EQ(fewest_answers, 1u);
}

// With --compat visualchat a round takes in the images of all rounds before it.
TEST(Conversation, MeasuredMemorySufficesForAllImagesSoFar) {
  const GenerationTest test{"t",
                            {{"These?", "", {kImagePath, kImagePath}},
                             {"And these?", "", {kImagePath, kImagePath}},
                             {"Why?", "", {}}}};
  ConversationRig rig({.max_new_tokens = 20, .max_seq_len = 4096, .max_image_pixels = 1 << 24},
                      PromptStyle::kVisualChat);
  NullBackend ops;
  Arena arena("measured");
  Context context{ops, arena, rig.hooks};
  rig.conversation.run_largest_pieces(context, test);
  for (const int64_t tokens : {1, 20}) {
    const auto [peak, answers] = rig.peak_with_answers_of(tokens, test);
    EXPECT_LE(peak, arena.peak()) << tokens;
    EXPECT_EQ(answers.back().tokens, tokens);
  }
}

TEST(Conversation, AnAnswerEndsAtItsLimit) {
  ConversationRig rig({.max_new_tokens = 4, .max_seq_len = 4096, .max_image_pixels = 1 << 24});
  const auto [peak, answers] = rig.peak_with_answers_of(100);
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[0].text, rig.setup->tokenizer->decode(std::vector<int32_t>(4, 5)));
  EXPECT_EQ(answers[0].tokens, 4);
  EXPECT_EQ(answers[0].stop_reason, StopReason::kMaxNewTokens);
}

// Those of the files, and the tokenizer's.
TEST(Conversation, AnAnswerEndsAtEachEndToken) {
  ConversationRig rig({.max_new_tokens = 4, .max_seq_len = 4096, .max_image_pixels = 1 << 24});
  NullBackend ops;
  Arena arena("answers");
  Context context{ops, arena, rig.hooks};
  rig.setup->end_tokens = {6, 7};
  const std::vector<int32_t> end_of_round = {rig.setup->tokenizer->eos_id(), 7, 8};
  int64_t said = 0;
  const auto choose = [&](int64_t round, std::span<const float>, std::span<const int32_t>) {
    return said++ % 2 == 0 ? 5 : end_of_round[static_cast<size_t>(round)];
  };
  const auto answers = rig.conversation.answers(context, pictures_later(), choose);
  ASSERT_EQ(answers.size(), 3u);
  const std::string one = rig.setup->tokenizer->decode(std::vector<int32_t>{5});
  EXPECT_EQ(answers[0].text, one);
  EXPECT_EQ(answers[0].stop_reason, StopReason::kEndToken);
  EXPECT_EQ(answers[1].text, one);
  EXPECT_NE(answers[2].text, one);
}

// A stop string may begin and end within tokens; what follows it and the string itself are cut off.
TEST(Conversation, AnAnswerEndsAtAStopString) {
  ConversationRules rules{.max_new_tokens = 50, .max_seq_len = 4096, .max_image_pixels = 1 << 24};
  rules.stop_strings = {"never said", "stop"};
  ConversationRig rig(rules);
  NullBackend ops;
  Arena arena("answers");
  Context context{ops, arena, rig.hooks};
  const std::vector<int32_t> text = rig.setup->tokenizer->encode("Go on, unstoppable one, go on");
  size_t said = 0;
  const auto choose = [&](int64_t, std::span<const float>, std::span<const int32_t>) {
    return said < text.size() ? text[said++] : rig.setup->tokenizer->eos_id();
  };
  const Answer answer = rig.conversation.answers(context, {"t", {{"Q?", "", {}}}}, choose).at(0);
  EXPECT_EQ(answer.text, "Go on, un");
  EXPECT_EQ(answer.stop_reason, StopReason::kStopString);
  EXPECT_EQ(answer.tokens, static_cast<int64_t>(said));
  EXPECT_LT(said, text.size());
}

// With --compat visualchat its text keeps its blanks, and the next round's prompt has it without a
// BOS at its begin.
TEST(Conversation, CompatTakesAnswersOverAsTheOriginal) {
  ConversationRig rig({.max_new_tokens = 50, .max_seq_len = 4096, .max_image_pixels = 1 << 24},
                      PromptStyle::kVisualChat);
  NullBackend ops;
  Arena arena("answers");
  Context context{ops, arena, rig.hooks};
  const Tokenizer& tokenizer = *rig.setup->tokenizer;
  const std::vector<int32_t> text = tokenizer.encode("a red circle ");
  std::vector<int32_t> answer = {*tokenizer.bos_id(), *tokenizer.bos_id()};
  answer.insert(answer.end(), text.begin(), text.end());
  answer.push_back(tokenizer.eos_id());
  std::vector<int32_t> first_prompt, second_prompt;
  size_t chosen = 0;
  const auto choose = [&](int64_t round, std::span<const float>, std::span<const int32_t> said) {
    if (chosen == 0) first_prompt.assign(said.begin(), said.end());
    if (round == 1) second_prompt.assign(said.begin(), said.end());
    return round == 0 ? answer[chosen++] : tokenizer.eos_id();
  };
  const GenerationTest test{"t", {{"What is it?", "", {kImagePath}}, {"Sure?", "", {}}}};
  const std::vector<Answer> answers = rig.conversation.answers(context, test, choose);
  EXPECT_EQ(answers.at(0).text, "a red circle ");
  std::vector<int32_t> expected = first_prompt;
  expected.insert(expected.end(), text.begin(), text.end());
  expected.push_back(tokenizer.eos_id());
  const std::vector<int32_t> asked = rig.prompt.round_prompt("Sure?", 0, 1, 1);
  expected.insert(expected.end(), asked.begin(), asked.end());
  EXPECT_EQ(second_prompt, expected);
}

// ---- on a model that computes

struct ComputingRig : ConversationRig {
  explicit ComputingRig(const ConversationRules& rules, PromptStyle style = PromptStyle::kCorrect)
      : ConversationRig(rules, style) {}

  CpuBackend cpu{1};
  Arena memory{"conversation", int64_t{1} << 28};
  Context context{cpu, memory, hooks};

  // ln of the probability of each labelled token but the last, the end token, in a forward pass
  // over the whole conversation.
  std::vector<double> logprobs_of(const std::vector<Round>& rounds) {
    const TokenizedSample sample = prompt.tokenize(rounds);
    MicroBatch batch;
    batch.token_ids = sample.token_ids;
    batch.labels = sample.labels;
    batch.sample_begin = {0, static_cast<int32_t>(sample.token_ids.size())};
    batch.images_per_sample = {0};
    batch.image_token_id = setup->tokenizer->image_id();
    std::vector<float> logits;
    setup->model->all_logits(context, batch, logits);
    const auto width = static_cast<size_t>(setup->config.lm.vocab_size);
    std::vector<double> logprobs;
    for (size_t t = 1; t < sample.token_ids.size(); ++t)
      if (sample.labels[t] != kIgnoredLabel)
        logprobs.push_back(
            log_probability(std::span(logits).subspan((t - 1) * width, width), sample.labels[t]));
    logprobs.pop_back();
    return logprobs;
  }
};

double sum_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

const ConversationRules kScored{
    .max_new_tokens = 1, .max_seq_len = 4096, .max_image_pixels = 1 << 24, .score = true};

// The worst that was measured is 1e-9. The untrained model's logits differ little: by 1e-3.
constexpr double kLogprobBound = 1e-8;

TEST(Conversation, ScoresAreThoseOfAWholePass) {
  ComputingRig rig(kScored);
  GenerationTest test{"t", {{"Is it?", "", {}, {"yes", "no, it is not", "it may be"}}}};
  const Answer answer = rig.conversation.scores(rig.context, test).at(0);
  ASSERT_EQ(answer.choices.size(), 3u);
  size_t best = 0;
  for (size_t i = 0; i < 3; ++i) {
    const std::string& text = test.rounds[0].choices[i];
    const std::vector<double> logprobs = rig.logprobs_of({{"Is it?", text, 0}});
    EXPECT_EQ(answer.choices[i].tokens, static_cast<int64_t>(logprobs.size()));
    EXPECT_NEAR(answer.choices[i].logprob, sum_of(logprobs), kLogprobBound) << text;
    if (answer.choices[i].logprob > answer.choices[best].logprob) best = i;
  }
  EXPECT_EQ(answer.text, test.rounds[0].choices[best]);
  EXPECT_EQ(answer.stop_reason, StopReason::kChosen);
}

// The second round follows the first one's likeliest choice and that answer's end.
TEST(Conversation, ScoringGoesOnWithTheLikeliestChoice) {
  ComputingRig rig(kScored);
  GenerationTest test{
      "t", {{"Is it?", "", {}, {"no, it is not", "yes"}}, {"Sure?", "", {}, {"maybe", "I am"}}}};
  const std::vector<Answer> answers = rig.conversation.scores(rig.context, test);
  ASSERT_EQ(answers.size(), 2u);
  const std::vector<double> first = rig.logprobs_of({{"Is it?", answers[0].text, 0}});
  const std::vector<double> both =
      rig.logprobs_of({{"Is it?", answers[0].text, 0}, {"Sure?", "I am", 0}});
  // Both have the first answer, and `both` its end too.
  const std::vector<double> second(both.begin() + static_cast<int64_t>(first.size()) + 1,
                                   both.end());
  EXPECT_NEAR(answers[1].choices[1].logprob, sum_of(second), kLogprobBound);
}

// With --compat visualchat a later round's image changes what the rows of earlier rounds read.
TEST(Conversation, ScoringAsksTheWholeConversationAnew) {
  ComputingRig rig(kScored, PromptStyle::kVisualChat);
  GenerationTest test{"t",
                      {{"Is it?", "", {kImagePath}, {"no, it is not", "yes"}},
                       {"And this?", "", {kOtherImagePath}, {"maybe", "it is"}}}};
  const std::vector<Answer> answers = rig.conversation.scores(rig.context, test);
  ASSERT_EQ(answers.size(), 2u);

  const RoundPieces pieces(*rig.setup, rig.prompt, kScored);
  RoundPlace place;
  const bool said_yes = answers[0].text == "yes";
  std::vector<int32_t> ids = pieces.choices(test.rounds[0], place)[said_yes ? 1 : 0].ids;
  place.pass(test.rounds[0]);
  const ChoiceTokens choice = pieces.choices(test.rounds[1], place)[1];
  const size_t begin = ids.size() + choice.answer_begin, end = ids.size() + choice.answer_end;
  ids.insert(ids.end(), choice.ids.begin(), choice.ids.end());
  const MicroBatch whole =
      pieces.piece(ids, std::vector{kImagePath, kOtherImagePath}, RoundPieces::Pixels::kFromFiles);
  std::vector<float> logits;
  rig.setup->model->all_logits(rig.context, whole, logits);
  const auto width = static_cast<size_t>(rig.setup->config.lm.vocab_size);
  const auto images = static_cast<size_t>(2 * (rig.setup->config.image_tokens() - 1));
  double expected = 0;
  for (size_t t = begin; t < end; ++t)
    expected += log_probability(std::span(logits).subspan((t + images - 1) * width, width), ids[t]);
  EXPECT_NEAR(answers[1].choices[1].logprob, expected, kLogprobBound);
}

TEST(Conversation, LogprobsAreThoseOfTheTokensThatWereSaid) {
  ConversationRules rules{.max_new_tokens = 3, .max_seq_len = 4096, .max_image_pixels = 1 << 24};
  rules.logprobs = true;
  ComputingRig rig(rules);
  const std::vector<int32_t> text = rig.setup->tokenizer->encode("it may be so");
  ASSERT_GE(text.size(), 3u);
  size_t said = 0;
  const auto choose = [&](int64_t, std::span<const float>, std::span<const int32_t>) {
    return text[said++];
  };
  const Answer answer =
      rig.conversation.answers(rig.context, {"t", {{"Is it?", "", {}}}}, choose).at(0);
  const std::vector<double> logprobs = rig.logprobs_of({{"Is it?", "it may be so", 0}});
  ASSERT_EQ(answer.logprobs.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(answer.logprobs[i], logprobs[i], kLogprobBound);
}

// ---- several at the same time

// Conversations of different lengths, with and without images; some begin alike.
std::vector<GenerationTest> several() {
  std::vector<GenerationTest> tests;
  for (const std::string question : {"Why?", "What is it that you see here?", "Why?", "And?"})
    tests.push_back({"t" + std::to_string(tests.size()), {{question, "", {}}}});
  tests[1].rounds[0].images = {kImagePath};
  tests[3].rounds = pictures_later().rounds;
  tests.push_back(tests[1]);
  return tests;
}

// The likeliest token, and the end after as many as the test and the round say.
ChooseToken likeliest_but_end(const Tokenizer& tokenizer, int64_t test) {
  auto said_in = std::make_shared<std::vector<int64_t>>(8);
  return [&tokenizer, test, said_in](int64_t round, std::span<const float> logits,
                                     std::span<const int32_t>) {
    if ((*said_in)[static_cast<size_t>(round)]++ == 3 + 4 * test + round) return tokenizer.eos_id();
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  };
}

// The answers of a batch, by test.
std::vector<std::vector<Answer>> held(const ConversationRig& rig, Context& context,
                                      const std::vector<GenerationTest>& tests, int64_t most) {
  std::vector<int64_t> capacities;
  for (const GenerationTest& test : tests) capacities.push_back(rig.pieces.capacity(test));
  std::vector<std::vector<Answer>> answers(tests.size());
  int64_t started = 0;
  const auto next = [&]() -> std::optional<ConversationBatch::Start> {
    if (started == static_cast<int64_t>(tests.size())) return {};
    const int64_t number = started++;
    return ConversationBatch::Start{number, &tests[static_cast<size_t>(number)],
                                    likeliest_but_end(*rig.setup->tokenizer, number)};
  };
  ConversationBatch(rig.pieces, capacities, most)
      .hold(context, next, [&](int64_t number, std::vector<Answer> of_test) {
        answers[static_cast<size_t>(number)] = std::move(of_test);
      });
  return answers;
}

TEST(ConversationBatch, AnswersAreThoseOfEachByItself) {
  ConversationRules rules{.max_new_tokens = 20, .max_seq_len = 400, .max_image_pixels = 1 << 24};
  rules.logprobs = true;
  ComputingRig rig(rules);
  const std::vector<GenerationTest> tests = several();
  std::vector<std::vector<Answer>> expected;
  for (size_t i = 0; i < tests.size(); ++i)
    expected.push_back(rig.conversation.answers(
        rig.context, tests[i], likeliest_but_end(*rig.setup->tokenizer, static_cast<int64_t>(i))));
  for (const int64_t most : {1, 2, 8}) {
    const auto answers = held(rig, rig.context, tests, most);
    for (size_t i = 0; i < tests.size(); ++i) {
      ASSERT_EQ(answers[i].size(), tests[i].rounds.size());
      for (size_t round = 0; round < answers[i].size(); ++round) {
        const Answer &answer = answers[i][round], &alone = expected[i][round];
        EXPECT_EQ(answer.text, alone.text) << "test " << i << ", at most " << most;
        EXPECT_EQ(answer.stop_reason, alone.stop_reason);
        ASSERT_EQ(answer.logprobs.size(), alone.logprobs.size());
        EXPECT_GT(answer.tokens, 0);
        for (size_t t = 0; t < answer.logprobs.size(); ++t)
          EXPECT_NEAR(answer.logprobs[t], alone.logprobs[t], kLogprobBound);
      }
    }
  }
}

// Few pictures and many short conversations, whose tokens are more rows than a prompt has.
TEST(ConversationBatch, MeasuredMemorySufficesWhateverTheAnswers) {
  std::vector<GenerationTest> many(64, {"short", {{"Why?", "", {}}}});
  for (const auto& tests : {several(), many})
    for (const int64_t most : {1, 3, 64}) {
      ConversationRig rig({.max_new_tokens = 30, .max_seq_len = 400, .max_image_pixels = 1 << 24});
      NullBackend ops;
      Arena measured("measured"), arena("held");
      Context measuring{ops, measured, rig.hooks}, context{ops, arena, rig.hooks};
      std::vector<int64_t> capacities;
      std::vector<const GenerationTest*> pointers;
      for (const GenerationTest& test : tests) {
        capacities.push_back(rig.pieces.capacity(test));
        pointers.push_back(&test);
      }
      ConversationBatch(rig.pieces, capacities, most).run_largest_forwards(measuring, pointers);
      held(rig, context, tests, most);
      EXPECT_LE(arena.peak(), measured.peak()) << tests.size() << " tests, at most " << most;
    }
}

}  // namespace
}  // namespace facet
