// A conversation of which answers are stopped and rounds are taken back.
#include "chat/talk.h"

#include <gtest/gtest.h>

#include <utility>

#include "chat/sampling.h"
#include "kernels/cpu/backend.h"
#include "ops/null_backend.h"
#include "tests/chat/small_model.h"

namespace facet {
namespace {

const std::string kImagePath = "tests/golden/data/images/420.jpg";

struct TalkRig {
  explicit TalkRig(int64_t max_seq_len, const RopeScaling& scaling = {})
      : setup(small_model(PromptStyle::kCorrect, scaling)),
        prompt(*setup->tokenizer,
               {PromptStyle::kCorrect, "", setup->config.image_tokens(), max_seq_len}),
        pieces(*setup, prompt,
               {.max_new_tokens = 9,
                .max_seq_len = max_seq_len,
                .max_image_pixels = 1 << 24,
                .logprobs = true}) {}

  std::optional<Answer> ask(Talk& talk, const GenerationRound& round, size_t tokens = 100) {
    Sampler greedy({});
    RandomStream draws(1, "talk");
    const auto choose = [&](int64_t, std::span<const float> logits, std::span<const int32_t> said) {
      return greedy.pick(logits, said, draws);
    };
    return talk.answer(round, choose,
                       [&](std::span<const int32_t> answer) { return answer.size() < tokens; });
  }

  CpuBackend cpu{1};
  UnitHooks hooks;
  Arena memory{"talk", int64_t{1} << 28};
  Context context{cpu, memory, hooks};
  std::unique_ptr<ModelSetup> setup;
  PromptBuilder prompt;
  RoundPieces pieces;
};

// The untrained model says much the same to everything; how sure it is tells what it has read.
// Rows that are computed again together, as some are below, may have other last bits than alone.
constexpr double kLogprobBound = 1e-8;  // measured: below 1e-9
void expect_equal(const std::optional<Answer>& a, const std::optional<Answer>& b) {
  ASSERT_TRUE(a && b);
  EXPECT_EQ(a->text, b->text);
  ASSERT_EQ(a->logprobs.size(), b->logprobs.size());
  for (size_t i = 0; i < a->logprobs.size(); ++i)
    EXPECT_NEAR(a->logprobs[i], b->logprobs[i], kLogprobBound) << i;
}

const GenerationRound kHello{"Hello?", "", {}};
const GenerationRound kPicture{"And this?", "", {kImagePath}};
const GenerationRound kWhy{"Why is that so?", "", {}};

// Also where the angles of all positions change with the length: 64 positions are reached in the
// second round.
TEST(Talk, WhatIsTakenBackWasNeverSaid) {
  for (const RopeScaling& scaling :
       {RopeScaling{}, RopeScaling{.type = RopeScaling::Type::kDynamic, .factor = 2}}) {
    TalkRig rig(400, scaling);
    Talk talk(rig.pieces, rig.context);
    const auto first = rig.ask(talk, kHello);
    const auto second = rig.ask(talk, kPicture);
    const auto third = rig.ask(talk, kWhy);
    const int64_t length = talk.length();
    EXPECT_GT(length, 64);
    EXPECT_TRUE(talk.undo());
    EXPECT_TRUE(talk.undo());
    EXPECT_EQ(talk.rounds(), 1);
    EXPECT_EQ(talk.images(), 0);
    rig.ask(talk, kWhy);
    rig.ask(talk, kWhy);
    EXPECT_TRUE(talk.undo());
    EXPECT_TRUE(talk.undo());
    expect_equal(rig.ask(talk, kPicture), second);
    expect_equal(rig.ask(talk, kWhy), third);
    EXPECT_EQ(talk.length(), length);
    talk.clear();
    EXPECT_FALSE(talk.undo());
    EXPECT_EQ(talk.length(), 0);
    expect_equal(rig.ask(talk, kHello), first);
  }
}

TEST(Talk, AnAnswerThatIsStoppedStaysAsFarAsItCame) {
  TalkRig rig(400);
  Talk talk(rig.pieces, rig.context);
  const auto whole = rig.ask(talk, kHello);
  const auto after_whole = rig.ask(talk, kWhy);
  talk.clear();
  const auto stopped = rig.ask(talk, kHello, 4);
  EXPECT_EQ(stopped->stop_reason, StopReason::kInterrupted);
  EXPECT_EQ(stopped->tokens, 4);
  EXPECT_TRUE(whole->text.starts_with(stopped->text));
  const int64_t length = talk.length();
  const auto after = rig.ask(talk, kWhy);
  EXPECT_EQ(after->stop_reason, after_whole->stop_reason);
  talk.undo();
  EXPECT_EQ(talk.length(), length);
  expect_equal(rig.ask(talk, kWhy), after);
  // Before its first token.
  EXPECT_EQ(rig.ask(talk, kWhy, 0)->tokens, 0);
}

// Neither a question that is too long nor an image that is no longer there changes anything.
TEST(Talk, ARoundThatDoesNotFitLeavesTheConversationAsItWas) {
  TalkRig rig(90);
  Talk talk(rig.pieces, rig.context);
  ASSERT_TRUE(rig.ask(talk, kHello));
  const int64_t length = talk.length();
  std::string question = "Why";
  for (int i = 0; i < 40; ++i) question += " and why";
  EXPECT_FALSE(rig.ask(talk, {question, "", {}}));
  EXPECT_THROW(rig.ask(talk, {"?", "", {"none.jpg"}}), Error);
  EXPECT_EQ(talk.length(), length);
  EXPECT_EQ(talk.rounds(), 1);
  const auto answer = rig.ask(talk, kWhy);
  ASSERT_TRUE(answer);
  Talk other(rig.pieces, rig.context);
  rig.ask(other, kHello);
  expect_equal(rig.ask(other, kWhy), answer);
}

// Peaks of the arena: as measured for so many images, and of a conversation that is filled with the
// longest questions that fit after all of them.
std::pair<int64_t, int64_t> measured_and_used(const RopeScaling& scaling, size_t images) {
  TalkRig rig(230, scaling);
  NullBackend ops;
  Arena measured("measured"), used("used");
  Context measuring{ops, measured, rig.hooks};
  Talk::run_largest_pieces(rig.pieces, measuring, static_cast<int64_t>(images));
  Context context{ops, used, rig.hooks};
  Talk talk(rig.pieces, context);
  const auto choose = [](int64_t, std::span<const float>, std::span<const int32_t>) { return 5; };
  const auto on = [](std::span<const int32_t>) { return true; };
  GenerationRound pictures{"And these?", "", {}};
  pictures.images.resize(images, kImagePath);
  EXPECT_TRUE(talk.answer(kHello, choose, on));
  EXPECT_TRUE(talk.answer(pictures, choose, on));
  std::string longest;
  for (int i = 0; i < 100; ++i) longest += "why ";
  for (size_t bytes = longest.size(); bytes > 0; bytes -= 4)
    talk.answer({longest.substr(0, bytes), "", {}}, choose, on);
  while (talk.answer(kHello, choose, on)) {
  }
  while (talk.undo()) {
  }
  return {measured.peak(), used.peak()};
}

TEST(Talk, MeasuredMemorySufficesWhateverIsAsked) {
  for (const RopeScaling& scaling :
       {RopeScaling{}, RopeScaling{.type = RopeScaling::Type::kDynamic, .factor = 2}})
    for (const size_t images : {0, 4}) {
      const auto [measured, used] = measured_and_used(scaling, images);
      EXPECT_GT(used, 0);
      EXPECT_LE(used, measured) << images;
    }
}

}  // namespace
}  // namespace facet
