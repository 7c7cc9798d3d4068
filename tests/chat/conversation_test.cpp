// A conversation takes no more memory than run_largest_pieces() measures, whatever the answers.
#include "chat/conversation.h"

#include <gtest/gtest.h>

#include "ops/null_backend.h"
#include "optim/partition.h"
#include "tests/model/language_rig.h"

namespace facet {
namespace {

const std::string kImagePath = "tests/golden/data/images/420.jpg";

std::unique_ptr<ModelSetup> small_model() {
  auto setup = std::make_unique<ModelSetup>();
  setup->tokenizer = std::make_unique<Tokenizer>("tests/golden/data", PromptStyle::kCorrect);
  setup->config = language_rig::small_config();
  setup->config.vision.intermediate_size = 4000;  // pictures cost more than text
  setup->config.lm.vocab_size = setup->tokenizer->vocab_size();
  setup->preprocessor =
      std::make_unique<ImagePreprocessor>(ImagePreprocessConfig{}, setup->config.image_size);
  setup->model = std::make_unique<VisionLanguageModel>(setup->config, setup->table);
  setup->table.allocate(partition_padding(1));
  for (Param& param : setup->table.params()) {
    if (param.init == Init::kNone) param.init = Init::kNormal002;
    ParamTable::draw(param, 3);
  }
  return setup;
}

// The second round shows pictures, and fits only where the first answer was short.
GenerationTest pictures_later() {
  GenerationTest test{"t", {}};
  test.rounds.push_back({"Hello?", "", {}});
  test.rounds.push_back({"And these?", "", {kImagePath, kImagePath, kImagePath, kImagePath}});
  test.rounds.push_back({"Why?", "", {}});
  return test;
}

struct ConversationRig {
  explicit ConversationRig(const ConversationLimits& limits)
      : prompt(*setup->tokenizer,
               {PromptStyle::kCorrect, "", setup->config.image_tokens(), limits.max_seq_len}),
        conversation(*setup, prompt, limits) {}

  // Peak of the arena, and the answers, when every answer has `tokens` tokens at most.
  std::pair<int64_t, std::vector<std::string>> peak_with_answers_of(int64_t tokens) {
    NullBackend ops;
    Arena arena("measured");
    Context context{ops, arena, hooks};
    int64_t round = 0, said = 0;
    const auto choose = [&](int64_t now, const std::vector<float>&) {
      said = now == round ? said : 0;
      round = now;
      return said++ < tokens ? 5 : setup->tokenizer->eos_id();
    };
    auto answers = conversation.answers(context, pictures_later(), choose);
    return {arena.peak(), answers};
  }

  std::unique_ptr<ModelSetup> setup = small_model();
  PromptBuilder prompt;
  UnitHooks hooks;
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
    most_answers = std::max(most_answers, answers.size());
    fewest_answers = std::min(fewest_answers, answers.size());
  }
  EXPECT_EQ(most_answers, 3u);
  EXPECT_EQ(fewest_answers, 1u);
}

TEST(Conversation, AnAnswerEndsAtItsLimit) {
  ConversationRig rig({.max_new_tokens = 4, .max_seq_len = 4096, .max_image_pixels = 1 << 24});
  const auto [peak, answers] = rig.peak_with_answers_of(100);
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[0], rig.setup->tokenizer->decode(std::vector<int32_t>(4, 5)));
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
  const auto choose = [&](int64_t round, const std::vector<float>&) {
    return said++ % 2 == 0 ? 5 : end_of_round[static_cast<size_t>(round)];
  };
  const auto answers = rig.conversation.answers(context, pictures_later(), choose);
  ASSERT_EQ(answers.size(), 3u);
  const std::string one = rig.setup->tokenizer->decode(std::vector<int32_t>{5});
  EXPECT_EQ(answers[0], one);
  EXPECT_EQ(answers[1], one);
  EXPECT_NE(answers[2], one);
}

}  // namespace
}  // namespace facet
