// Questions in, answers out.
#include "chat/generate_io.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "base/check.h"
#include "chat/answer_report.h"

namespace facet {
namespace {

std::string written(const std::string& text) {
  const std::string path = ::testing::TempDir() + "facet_generate_io.json";
  std::ofstream(path) << text;
  return path;
}

TEST(GenerateIo, ReadsTestsInTheOrderOfTheFile) {
  const auto tests = read_generation_tests(
      written(R"({"z": [["Q1", "a.png  b.png"], ["Q2"]], "a": [["Q3", ""], ["Q4", ["a b.png"]]]})"),
      QuestionForm::kOpen);
  ASSERT_EQ(tests.size(), 2u);
  EXPECT_EQ(tests[0].name, "z");
  ASSERT_EQ(tests[0].rounds.size(), 2u);
  EXPECT_EQ(tests[0].rounds[0].images, (std::vector<std::string>{"a.png", "b.png"}));
  EXPECT_EQ(tests[0].rounds[0].image_text, "a.png  b.png");
  EXPECT_TRUE(tests[0].rounds[1].images.empty());
  EXPECT_TRUE(tests[1].rounds[0].images.empty());
  EXPECT_EQ(tests[1].rounds[1].images, std::vector<std::string>{"a b.png"});
}

TEST(GenerateIo, OtherShapesAreRefused) {
  for (const char* text : {"[]", "{}", R"({"a": []})", R"({"a": [[]]})", R"({"a": ["Q"]})",
                           R"({"a": [["Q", "i", "x"]]})", R"({"a": [[1]]})"})
    EXPECT_THROW(read_generation_tests(written(text), QuestionForm::kOpen), Error) << text;
  for (const char* text :
       {R"({"a": [["Q", ""]]})", R"({"a": [["Q", "", []]]})", R"({"a": [["Q", "", ["one"]]]})",
        R"({"a": [["Q", "", "yes no"]]})", R"({"a": [["Q", "", ["yes", 1]]]})"})
    EXPECT_THROW(read_generation_tests(written(text), QuestionForm::kWithChoices), Error) << text;
}

TEST(GenerateIo, ChoicesAreRead) {
  const auto tests = read_generation_tests(written(R"({"a": [["Q", [], ["yes", "no, not"]]]})"),
                                           QuestionForm::kWithChoices);
  EXPECT_EQ(tests.at(0).rounds.at(0).choices, (std::vector<std::string>{"yes", "no, not"}));
}

TEST(GenerateIo, RoundsMayBeObjects) {
  const auto tests = read_generation_tests(
      written(R"({"a": [{"question": "Q", "images": ["a b.png"], "answers": ["yes", "yeah"]},
                        {"question": "R", "answers": "no"}, {"question": "S"}]})"),
      QuestionForm::kOpen);
  ASSERT_EQ(tests.at(0).rounds.size(), 3u);
  EXPECT_EQ(tests[0].rounds[0].question, "Q");
  EXPECT_EQ(tests[0].rounds[0].images, std::vector<std::string>{"a b.png"});
  EXPECT_EQ(tests[0].rounds[0].right, (std::vector<std::string>{"yes", "yeah"}));
  EXPECT_EQ(tests[0].rounds[1].right, std::vector<std::string>{"no"});
  EXPECT_TRUE(tests[0].rounds[2].right.empty());
  for (const char* round :
       {R"({"answers": "x"})", R"({"question": "Q", "answer": "x"})",
        R"({"question": "Q", "answers": []})", R"({"question": "Q", "choices": ["a", "b"]})"})
    EXPECT_THROW(
        read_generation_tests(written(fmt::format(R"({{"a": [{}]}})", round)), QuestionForm::kOpen),
        Error)
        << round;
}

TEST(GenerateIo, ARightAnswerIsOneOfTheChoices) {
  const auto read = [](const char* right) {
    return read_generation_tests(
        written(fmt::format(
            R"({{"a": [{{"question": "Q", "choices": ["yes", "no"], "answers": "{}"}}]}})", right)),
        QuestionForm::kWithChoices);
  };
  EXPECT_EQ(read("no").at(0).rounds.at(0).right, std::vector<std::string>{"no"});
  EXPECT_THROW(read("No"), Error);
}

TEST(GenerateIo, FieldsAreQuotedWhereTheyMust) {
  EXPECT_EQ(csv_field("plain text"), "plain text");
  EXPECT_EQ(csv_field("a,b"), "\"a,b\"");
  EXPECT_EQ(csv_field("say \"x\""), "\"say \"\"x\"\"\"");
  EXPECT_EQ(csv_field("two\nlines"), "\"two\nlines\"");
}

std::string file_with(AnswerFormat format, const std::vector<GenerationTest>& tests,
                      const std::vector<ModelAnswers>& models) {
  const std::string path = ::testing::TempDir() + "facet_answers";
  write_answers(path, format, tests, models);
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  std::remove(path.c_str());
  return text.str();
}

Answer answer_of(const std::string& text) {
  Answer answer;
  answer.text = text;
  answer.tokens = 2;
  answer.seconds = 0.5;
  answer.stop_reason = StopReason::kEndToken;
  return answer;
}

const std::vector<GenerationTest> kTests = {{"t", {{"Q,1", "a.png", {"a.png"}}, {"Q2", "", {}}}}};
const std::vector<ModelAnswers> kAnswers = {
    {"", {{0, 0, {answer_of("yes"), answer_of("a\n\"b\"")}}}}};

TEST(GenerateIo, Csv) {
  EXPECT_EQ(file_with(AnswerFormat::kCsv, kTests, kAnswers),
            "test_name,image_path,question,answer\nt,a.png,\"Q,1\",yes\nt,,Q2,\"a\n\"\"b\"\"\"\n");
}

// What Python's csv.writer makes of the original's rows, in which the last element of a question
// stands for its images.
TEST(GenerateIo, CsvOfTheOriginal) {
  EXPECT_EQ(file_with(AnswerFormat::kOriginalCsv, kTests, kAnswers),
            "test_name,image_path,question,answer\r\nt,a.png,\"Q,1\",yes\r\n"
            "t,Q2,Q2,\"a\n\"\"b\"\"\"\r\n");
}

TEST(GenerateIo, JsonLinesHaveARecordPerRound) {
  std::vector<ModelAnswers> models = kAnswers;
  std::vector<AnsweredTest>& answers = models.front().answers;
  answers[0].rounds[0].logprobs = {-0.5, -1.25};
  answers[0].rounds[1].choices = {{-1.5, 3}, {-2.0, 1}};
  std::vector<GenerationTest> tests = kTests;
  tests[0].rounds[1].choices = {"a", "b"};
  EXPECT_EQ(
      file_with(AnswerFormat::kJsonLines, tests, models),
      R"({"test": "t", "answer_number": 0, "round": 0, "images": ["a.png"], "question": "Q,1", )"
      R"("answer": "yes", "tokens": 2, "seconds": 0.5, "stop_reason": "end_token", "logprobs": [-0.5, -1.25]})"
      "\n"
      R"({"test": "t", "answer_number": 0, "round": 1, "images": [], "question": "Q2", )"
      R"("answer": "a\n\"b\"", "tokens": 2, "seconds": 0.5, "stop_reason": "end_token", "choices": )"
      R"([{"answer": "a", "logprob": -1.5, "tokens": 3}, {"answer": "b", "logprob": -2.0, "tokens": 1}]})"
      "\n");
}

TEST(GenerateIo, AnswersBelongToTests) {
  const std::vector<GenerationTest> tests = {{"t", {{"Q", "", {}, {"a", "b"}}}}};
  EXPECT_TRUE(is_answer_to(tests, {0, 0, {Answer()}}));
  AnsweredTest scored{0, 0, {Answer()}};
  scored.rounds[0].choices.resize(2);
  EXPECT_TRUE(is_answer_to(tests, scored));
  scored.rounds[0].choices.resize(3);
  EXPECT_FALSE(is_answer_to(tests, scored));
  for (const int64_t test : {-1, 1}) EXPECT_FALSE(is_answer_to(tests, {test, 0, {Answer()}}));
  EXPECT_FALSE(is_answer_to(tests, {0, 0, {}}));
  EXPECT_FALSE(is_answer_to(tests, {0, 0, {Answer(), Answer()}}));
}

TEST(GenerateIo, TheJournalsLinesReadBack) {
  AnsweredTest answered{3, 2, {answer_of("one\nand \xe2\x82\xac"), answer_of("")}};
  answered.rounds[0].logprobs = {-0.1};
  answered.rounds[1].choices = {{-1.5, 3}};
  const auto read = answered_tests_of(line_of(answered) + line_of({4, 0, {}}), "journal");
  ASSERT_EQ(read.size(), 2u);
  EXPECT_EQ(read[1].test, 4);
  EXPECT_EQ(read[0].number, 2);
  ASSERT_EQ(read[0].rounds.size(), 2u);
  EXPECT_EQ(read[0].rounds[0].text, "one\nand \xe2\x82\xac");
  EXPECT_EQ(read[0].rounds[0].logprobs, std::vector<double>{-0.1});
  EXPECT_EQ(read[0].rounds[0].stop_reason, StopReason::kEndToken);
  EXPECT_EQ(read[0].rounds[1].choices.at(0).logprob, -1.5);
  for (const char* rubbish :
       {"{", "{}\n", R"({"test": 0, "number": 0, "rounds": [{"answer": 1}]})"})
    EXPECT_THROW(answered_tests_of(rubbish, "journal"), Error) << rubbish;
}

// Two models and a test with two answers: all of a model together, in the original's CSV all of a
// test.
TEST(GenerateIo, SeveralModels) {
  const std::vector<GenerationTest> tests = {{"t", {{"Q", "", {}, {}, {"yes"}}}},
                                             {"u", {{"R", "", {}}}}};
  const std::vector<ModelAnswers> models = {
      {"e-1", {{0, 0, {answer_of("yes")}}, {1, 0, {answer_of("b")}}}},
      {"e-2", {{0, 0, {answer_of("no")}}, {1, 0, {answer_of("d")}}}}};
  EXPECT_EQ(file_with(AnswerFormat::kCsv, tests, models),
            "checkpoint,test_name,image_path,question,answer\n"
            "e-1,t,,Q,yes\ne-1,u,,R,b\ne-2,t,,Q,no\ne-2,u,,R,d\n");
  EXPECT_EQ(file_with(AnswerFormat::kOriginalCsv, tests, models),
            "test_name,image_path,question,answer\r\n"
            "t,Q,Q,yes\r\nt,Q,Q,no\r\nu,R,R,b\r\nu,R,R,d\r\n");
  const std::string lines = file_with(AnswerFormat::kJsonLines, tests, models);
  EXPECT_TRUE(lines.starts_with("{\"checkpoint\": \"e-1\", \"test\": \"t\"")) << lines;
  EXPECT_NE(lines.find("\"right_answers\": [\"yes\"], \"exact_match\": 0"), std::string::npos)
      << lines;
}

Answer chosen(const std::string& text, std::vector<ChoiceScore> scores) {
  Answer answer = answer_of(text);
  answer.choices = std::move(scores);
  return answer;
}

// By the sum "yes" is likelier in both, by token the longer choice in the first.
TEST(AnswerReport, ChoicesByTheirSumAndByToken) {
  const GenerationRound round{"Q", "", {}, {"yes", "no it is not"}, {"no it is not"}};
  const std::vector<GenerationTest> tests = {{"t", {round, round}}};
  const std::vector<AnsweredTest> answers = {
      {0, 0, {chosen("yes", {{-2, 1}, {-4, 4}}), chosen("yes", {{-2, 1}, {-40, 4}})}}};
  const std::optional<AnswerReport> report = report_on(tests, answers);
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->text(), "accuracy 0.0000, accuracy_per_token 0.5000, of 2 answers");
}

TEST(AnswerReport, OnlyOfQuestionsWithRightAnswers) {
  const std::vector<GenerationTest> tests = {{"t", {{"Q", "", {}, {}, {"a ball"}}, {"R", "", {}}}}};
  const std::vector<AnsweredTest> answers = {{0, 0, {answer_of("Ball."), answer_of("what")}}};
  const std::optional<AnswerReport> report = report_on(tests, answers);
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->answers, 1);
  EXPECT_EQ(report->metrics.front(), (std::pair<std::string, double>("exact_match", 1)));
  EXPECT_FALSE(report_on({{"t", {{"R", "", {}}}}}, answers).has_value());
}

}  // namespace
}  // namespace facet
