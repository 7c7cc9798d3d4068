#include "chat/answer_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/check.h"
#include "chat/answer_metrics.h"
#include "io/file.h"
#include "io/json.h"

namespace facet {

namespace {

// What is right of the choices that were scored, the sums for both ways of comparing them.
struct ChoiceSums {
  int64_t by_sum = 0, by_token = 0;
};

bool is_right(const GenerationRound& round, const std::string& answer) {
  return std::find(round.right.begin(), round.right.end(), answer) != round.right.end();
}

void add(ChoiceSums& sums, const GenerationRound& round, const Answer& answer) {
  sums.by_sum += is_right(round, answer.text);
  if (answer.choices.empty()) return;  // there was no room for the question
  const auto per_token = [](const ChoiceScore& score) {
    return score.logprob / static_cast<double>(std::max<int64_t>(score.tokens, 1));
  };
  const auto likeliest = std::max_element(
      answer.choices.begin(), answer.choices.end(),
      [&](const ChoiceScore& a, const ChoiceScore& b) { return per_token(a) < per_token(b); });
  sums.by_token +=
      is_right(round, round.choices[static_cast<size_t>(likeliest - answer.choices.begin())]);
}

void write_report(JsonWriter& writer, const AnswerReport& report) {
  writer.key("answers").value(report.answers);
  for (const auto& [name, value] : report.metrics) writer.key(name).value(value);
}

std::string place_of_reports(const std::string& output) { return output + ".metrics.json"; }

}  // namespace

std::string AnswerReport::text() const {
  std::string text;
  for (const auto& [name, value] : metrics) text += fmt::format("{} {:.4f}, ", name, value);
  return text + fmt::format("of {} answers", answers);
}

std::optional<AnswerReport> report_on(const std::vector<GenerationTest>& tests,
                                      std::span<const AnsweredTest> answers) {
  std::vector<JudgedAnswer> judged;
  ChoiceSums sums;
  bool scored = false;
  for (const AnsweredTest& answered : answers) {
    const GenerationTest& test = tests[static_cast<size_t>(answered.test)];
    for (size_t r = 0; r < test.rounds.size(); ++r) {
      const GenerationRound& round = test.rounds[r];
      if (round.right.empty()) continue;
      judged.push_back({answered.rounds[r].text, round.right, answered.number > 0});
      scored = scored || !round.choices.empty();
      add(sums, round, answered.rounds[r]);
    }
  }
  if (judged.empty()) return {};
  AnswerReport report{static_cast<int64_t>(judged.size()), {}};
  if (scored) {
    const auto all = static_cast<double>(report.answers);
    report.metrics = {{"accuracy", static_cast<double>(sums.by_sum) / all},
                      {"accuracy_per_token", static_cast<double>(sums.by_token) / all}};
  } else {
    report.metrics = answer_metrics(judged);
  }
  return report;
}

void remove_reports(const std::string& output) {
  std::error_code error;
  std::filesystem::remove(place_of_reports(output), error);
  CHECK(!error, ExitCode::kIo, "{}: cannot be removed, and is of other answers: {}",
        place_of_reports(output), error.message());
}

void write_reports(const std::string& output,
                   std::span<const std::pair<std::string, AnswerReport>> reports) {
  JsonWriter writer;
  writer.begin_object();
  for (const auto& [name, report] : reports) {
    if (!name.empty()) writer.key(name).begin_object();
    write_report(writer, report);
    if (!name.empty()) writer.end_object();
  }
  writer.end_object();
  write_file(place_of_reports(output), writer.take());
}

}  // namespace facet
