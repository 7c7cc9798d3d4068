// Long texts: what the bound says must be true of their tokens.
#include "data/text_bound.h"

#include <gtest/gtest.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>

#include "base/rng.h"
#include "data/tokenizer.h"
#include "golden.h"

namespace facet {
namespace {

using Settings = std::unordered_map<std::string, std::string>;
using Pieces = sentencepiece::SentencePieceProcessor;

class Sentences : public sentencepiece::SentenceIterator {
 public:
  bool done() const override { return at_ == std::size(kTexts); }
  void Next() override { ++at_; }
  const std::string& value() const override { return kTexts[at_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  inline static const std::string kTexts[] = {"what is this", "a red circle and a blue square",
                                              "which one is larger, this or that?",
                                              "the square is the larger one of both"};
  size_t at_ = 0;
};

std::unique_ptr<Pieces> trained(Settings settings) {
  settings.merge(Settings{{"model_type", "bpe"},
                          {"vocab_size", "300"},
                          {"hard_vocab_limit", "false"},
                          {"num_threads", "1"},
                          {"minloglevel", "2"}});
  Sentences sentences;
  std::string model;
  EXPECT_TRUE(sentencepiece::SentencePieceTrainer::Train(settings, &sentences, &model).ok());
  auto pieces = std::make_unique<Pieces>();
  EXPECT_TRUE(pieces->LoadFromSerializedProto(model).ok());
  return pieces;
}

// Letters, blanks in runs, characters that NFKC changes or joins, characters nobody knows.
std::string random_text(RandomStream& stream, size_t parts) {
  static const std::vector<std::string> kParts = {"square ",      "a",   "e\u0301",      "      ",
                                                  "\uFF21\uFB01", "\t",  "\u6f22\u5b57", "\u200b",
                                                  "?!",           "zzz", "    "};
  std::string text;
  const uint64_t first = stream.below(kParts.size()), kinds = 1 + stream.below(3);
  for (size_t i = 0; i < parts; ++i) text += kParts[(first + stream.below(kinds)) % kParts.size()];
  return text;
}

// Never more than there are, whatever the tokenizer does to the text.
void expect_true_bounds(const Pieces& pieces, const char* name) {
  const TextBound bound(pieces, 1);
  RandomStream stream(3, "texts");
  for (int i = 0; i < 300; ++i) {
    const std::string text = random_text(stream, 1 + stream.below(40));
    std::vector<int> ids;
    ASSERT_TRUE(pieces.Encode(text, &ids).ok());
    EXPECT_FALSE(bound.exceeds(text, static_cast<int64_t>(ids.size()))) << name << ": " << text;
  }
  EXPECT_TRUE(bound.exceeds(std::string(100'000, 'a'), 100)) << name;
  EXPECT_FALSE(bound.exceeds("a", INT64_MAX)) << name;
}

TEST(TextBound, IsTrueForTokenizersOfEveryKind) {
  expect_true_bounds(*trained({{"normalization_rule_name", "identity"},
                               {"remove_extra_whitespaces", "false"},
                               {"byte_fallback", "true"},
                               {"vocab_size", "600"}}),
                     "as LLaMA's");
  expect_true_bounds(*trained({{"normalization_rule_name", "identity"},
                               {"byte_fallback", "true"},
                               {"vocab_size", "600"}}),
                     "joins blanks");
  expect_true_bounds(*trained({{"byte_fallback", "true"}, {"vocab_size", "600"}}),
                     "NFKC with bytes");
  expect_true_bounds(*trained({}), "NFKC without bytes");
  expect_true_bounds(*trained({{"normalization_rule_name", "identity"}}), "without bytes");
  expect_true_bounds(*trained({{"model_type", "unigram"}, {"vocab_size", "60"}}), "unigram");
}

// Of a tokenizer that keeps every byte even blanks and unknown characters count.
TEST(TextBound, SeesEveryKindOfLongTextWithLlamasTokenizer) {
  const Tokenizer tokenizer(kGoldenDir, PromptStyle::kCorrect);
  for (const std::string part : {"a", " ", "\n", "\u6f22", "a word ", "</s>"}) {
    std::string text;
    while (text.size() < 200'000) text += part;
    EXPECT_TRUE(tokenizer.exceeds(text, 100)) << part;
    EXPECT_FALSE(tokenizer.exceeds(text.substr(0, 100), 100)) << part;
  }
}

}  // namespace
}  // namespace facet
