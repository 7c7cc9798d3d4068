// How good the answers to questions are that bring the right ones.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "chat/generate_io.h"

namespace facet {

struct AnswerReport {
  int64_t answers = 0;  // to questions with right answers
  std::vector<std::pair<std::string, double>> metrics;

  std::string text() const;  // "exact_match 0.5000, ..., of 12 answers"
};

// Of freely generated answers answer_metrics(); of scored choices "accuracy", how often the
// likeliest is right, and "accuracy_per_token", the same by log-probability for each token. Nothing
// if no question has right answers.
std::optional<AnswerReport> report_on(const std::vector<GenerationTest>& tests,
                                      std::span<const AnsweredTest> answers);

// Writes OUTPUT.metrics.json: an object with the number of answers and the metrics; with names an
// object for each model under its name.
void write_reports(const std::string& output,
                   std::span<const std::pair<std::string, AnswerReport>> reports);
// What an earlier call has written of other answers. kIo.
void remove_reports(const std::string& output);

}  // namespace facet
