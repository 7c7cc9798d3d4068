#include "chat/chat_history.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "io/file.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

Answer said(const std::string& text) {
  Answer answer;
  answer.text = text;
  answer.stop_reason = StopReason::kEndToken;
  return answer;
}

GenerationRound round_of(const std::string& question, std::vector<std::string> images = {}) {
  return {question, "", std::move(images)};
}

// What generate --input reads is what was asked and not taken back.
TEST(ChatHistory, IsReadByGenerate) {
  const TemporaryDirectory directory;
  const std::string path = directory.path() + "/chat.json";
  ChatHistory history(path);
  EXPECT_FALSE(std::filesystem::exists(path));
  history.begin_anew();  // nothing was said
  EXPECT_EQ(history.name(), "chat-1");
  history.add(round_of("What \"is\" it?\nTell.", {"a b.jpg", "c.png"}), said("A ball."));
  history.add(round_of("Sure?"), said("No."));
  history.undo();
  history.add(round_of("Why?"), said("So."));
  history.begin_anew();
  history.add(round_of("Hello?"), said("Hello."));
  history.begin_anew();
  EXPECT_EQ(history.name(), "chat-3");
  history.add(round_of("Never said"), said(""));
  history.undo();

  const auto tests = read_generation_tests(path, QuestionForm::kOpen);
  ASSERT_EQ(tests.size(), 2u);
  EXPECT_EQ(tests[0].name, "chat-1");
  ASSERT_EQ(tests[0].rounds.size(), 2u);
  EXPECT_EQ(tests[0].rounds[0].question, "What \"is\" it?\nTell.");
  EXPECT_EQ(tests[0].rounds[0].images, (std::vector<std::string>{"a b.jpg", "c.png"}));
  EXPECT_EQ(tests[0].rounds[1].question, "Why?");
  EXPECT_EQ(tests[1].name, "chat-2");
  EXPECT_EQ(tests[1].rounds.size(), 1u);
  const std::string answers = read_file(path + ".answers.jsonl", 1 << 20);
  EXPECT_EQ(std::count(answers.begin(), answers.end(), '\n'), 3);
  EXPECT_NE(answers.find("\"test\": \"chat-1\", \"answer_number\": 0, \"round\": 1"),
            std::string::npos);
  EXPECT_NE(answers.find("\"answer\": \"So.\""), std::string::npos);
}

TEST(ChatHistory, WhatIsThereIsNotOverwritten) {
  const TemporaryDirectory directory;
  const std::string path = directory.path() + "/chat.json";
  write_file(path + ".answers.jsonl", "mine");
  EXPECT_THROW(ChatHistory{path}, Error);
  EXPECT_THROW(ChatHistory{directory.path() + "/none/chat.json"}, Error);
  ChatHistory nowhere("");
  nowhere.add(round_of("Hello?"), said("Hello."));
  EXPECT_EQ(read_file(path + ".answers.jsonl", 10), "mine");
}

}  // namespace
}  // namespace facet
