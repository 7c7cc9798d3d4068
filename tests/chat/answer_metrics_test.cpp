// Metrics of answers are those of the reference programs (scripts/make_golden_metrics.py).
#include "chat/answer_metrics.h"

#include <gtest/gtest.h>

#include "chat/answer_words.h"
#include "io/json.h"

namespace facet {
namespace {

const JsonDocument& golden() {
  static const JsonDocument kDocument = JsonDocument::read("tests/golden/data/metrics.json");
  return kDocument;
}

JudgedAnswer judged_of(const JsonValue& record) {
  JudgedAnswer judged{std::string(record.at("answer").as_string()), {}};
  for (const JsonValue right : record.at("right")) judged.right.emplace_back(right.as_string());
  return judged;
}

std::vector<JudgedAnswer> captions() {
  std::vector<JudgedAnswer> judged;
  for (const JsonValue record : golden().root().at("captions")) judged.push_back(judged_of(record));
  return judged;
}

TEST(AnswerMetrics, WordsOfCaptions) {
  for (const JsonValue record : golden().root().at("words")) {
    std::vector<std::string> expected;
    for (const JsonValue word : record.at("words")) expected.emplace_back(word.as_string());
    EXPECT_EQ(caption_words(record.at("text").as_string()), expected)
        << record.at("text").as_string();
  }
}

// Where no n-gram matches, the reference adds 1e-15 to the matches and 1e-9 to all; here it is 0.
void expect_bleu(std::span<const JudgedAnswer> judged, const char* name) {
  const std::vector<double> scores = bleu(judged);
  const JsonValue expected = golden().root().at("bleu").at(name);
  ASSERT_EQ(scores.size(), 4u);
  for (size_t n = 0; n < scores.size(); ++n)
    EXPECT_NEAR(scores[n], expected.at(static_cast<int64_t>(n)).as_double(), 1e-9) << name << n;
}

TEST(AnswerMetrics, BleuOfAllAnswersTogether) {
  const std::vector<JudgedAnswer> all = captions();
  expect_bleu(all, "all");
  expect_bleu(std::span(all).first(2), "first_two");
  expect_bleu(std::span(all).first(3), "short");
  const std::vector<JudgedAnswer> nothing = {{"", {"a ball"}}};
  EXPECT_EQ(bleu(nothing), std::vector<double>(4, 0));
}

TEST(AnswerMetrics, CiderOfAllAnswersTogether) {
  const std::vector<JudgedAnswer> all = captions();
  EXPECT_NEAR(cider(all), golden().root().at("cider").as_double(), 1e-9);
  EXPECT_EQ(cider(std::span(all).first(1)), 0);
}

TEST(AnswerMetrics, AccuracyOfVqa) {
  for (const JsonValue record : golden().root().at("vqa"))
    EXPECT_NEAR(vqa_accuracy(judged_of(record)), record.at("accuracy").as_double(), 1e-9)
        << record.at("answer").as_string();
}

TEST(AnswerMetrics, VqaPreparesAnswersOnWhichAllAgree) {
  EXPECT_EQ(vqa_accuracy({"Yes.", std::vector<std::string>(10, "yes")}), 1);
}

TEST(AnswerMetrics, ExactMatchAndContains) {
  for (const JsonValue record : golden().root().at("exact")) {
    const JudgedAnswer judged = judged_of(record);
    EXPECT_EQ(exact_match(judged), record.at("exact").as_double()) << judged.answer;
    EXPECT_EQ(contains_right(judged), record.at("contains").as_double()) << judged.answer;
  }
}

TEST(AnswerMetrics, TheLetterAIsNoEmptyAnswer) {
  EXPECT_EQ(exact_match({"", {"A"}}), 0);
  EXPECT_EQ(exact_match({"the", {"A"}}), 0);
  EXPECT_EQ(exact_match({"a.", {"A"}}), 1);
}

TEST(AnswerMetrics, LettersBeyondAsciiHaveCases) {
  EXPECT_EQ(exact_match({"Écureuil", {"écureuil"}}), 1);
  EXPECT_EQ(vqa_accuracy({"ÉCUREUIL", std::vector<std::string>(10, "Écureuil")}), 1);
  EXPECT_EQ(caption_words("Ein ROTER Äpfel"), caption_words("ein roter äpfel"));
  EXPECT_EQ(plain_words("\xff A\xc3"), "\xff a\xc3");  // no UTF-8
}

// Several answers to each question: what a n-gram weighs does not change by their number.
TEST(AnswerMetrics, CiderOfSeveralAnswersIsTheMean) {
  std::vector<JudgedAnswer> all = captions(), both;
  for (const JudgedAnswer& one : all) {
    both.push_back(one);
    both.push_back({"a zebra with " + one.answer, one.right, true});
  }
  double sum = cider(all);
  for (JudgedAnswer& one : all) one.answer = "a zebra with " + one.answer;
  EXPECT_NEAR(cider(both), (sum + cider(all)) / 2, 1e-12);
}

TEST(AnswerMetrics, VqaOnlyWhereEnoughPeopleAnswered) {
  const auto has_vqa = [](size_t people) {
    const std::vector<JudgedAnswer> judged = {{"yes", std::vector<std::string>(people, "yes")}};
    const auto metrics = answer_metrics(judged);
    return std::any_of(metrics.begin(), metrics.end(),
                       [](const auto& metric) { return metric.first == "vqa_accuracy"; });
  };
  EXPECT_FALSE(has_vqa(3));
  EXPECT_TRUE(has_vqa(4));
}

}  // namespace
}  // namespace facet
