#include "chat/answer_stream.h"

#include <gtest/gtest.h>

#include "tests/chat/small_model.h"

namespace facet {
namespace {

std::string settled(std::string_view text, const std::vector<std::string>& stops = {}) {
  return std::string(text.substr(0, settled_length(text, stops)));
}

TEST(AnswerStream, WhatMayChangeIsNotShown) {
  EXPECT_EQ(settled(""), "");
  EXPECT_EQ(settled("A ball"), "A ball");
  EXPECT_EQ(settled("A ball. \n\t"), "A ball.");
  EXPECT_EQ(settled("\n"), "");
  // Half an e with an acute, half a euro sign, a whole one; what a tokenizer has for the halves.
  EXPECT_EQ(settled("caf\xC3"), "caf");
  EXPECT_EQ(settled("5 \xE2\x82"), "5");
  EXPECT_EQ(settled("5 \xE2\x82\xAC"), "5 \xE2\x82\xAC");
  EXPECT_EQ(settled("5 \xEF\xBF\xBD\xEF\xBF\xBD"), "5");
  EXPECT_EQ(settled("5 \xEF\xBF\xBDx"), "5 \xEF\xBF\xBDx");
}

TEST(AnswerStream, StopStringsAreNotShownByHalves) {
  const std::vector<std::string> stops = {"###", "\nUser:", "a\xE2\x82\xAC"};
  EXPECT_EQ(settled("Yes #", stops), "Yes");
  EXPECT_EQ(settled("Yes ##", stops), "Yes");
  EXPECT_EQ(settled("Yes #1", stops), "Yes #1");
  EXPECT_EQ(settled("Yes\nUse", stops), "Yes");
  EXPECT_EQ(settled("Yes\nUsage", stops), "Yes\nUsage");
  EXPECT_EQ(settled("Yes: a\xE2\x82", stops), "Yes:");
  EXPECT_EQ(settled("Yes: a\xEF\xBF\xBD", stops), "Yes:");
}

// Piece by piece the whole text comes, each piece of whole characters.
TEST(AnswerStream, PiecesMakeTheText) {
  const auto setup = small_model();
  PromptBuilder prompt(*setup->tokenizer, {PromptStyle::kCorrect, "", 5, 100});
  ConversationRules rules;
  rules.stop_strings = {"stop"};
  const RoundPieces pieces(*setup, prompt, rules);
  const std::vector<int32_t> ids =
      setup->tokenizer->encode("  Zwölf Bälle, 5 \xE2\x82\xAC; st. \xF0\x9F\x8E\x88 sto");
  AnswerStream stream(pieces);
  std::string text;
  for (size_t count = 0; count <= ids.size(); ++count) {
    const std::string piece = stream.grown(std::span(ids).first(count));
    EXPECT_EQ(piece.find("\xEF\xBF\xBD"), std::string::npos) << piece;
    text += piece;
    EXPECT_FALSE(text.ends_with("sto"));
  }
  const std::string whole = pieces.text_of(ids);
  EXPECT_TRUE(whole.ends_with("sto"));
  EXPECT_EQ(text + stream.rest(whole), whole);
}

}  // namespace
}  // namespace facet
