#include "chat/generate.h"

#include <fmt/format.h>

#include <memory>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/progress.h"
#include "chat/answer_report.h"
#include "chat/answering_models.h"
#include "chat/generation.h"
#include "train/compute_device.h"

namespace facet {

namespace {

void warn_of_empty(const Options& options, const std::vector<AnsweredTest>& answers) {
  int64_t rounds = 0, empty = 0;
  for (const AnsweredTest& answered : answers)
    for (const Answer& answer : answered.rounds) {
      ++rounds;
      empty += answer.text.empty();
    }
  if (empty > 0)
    warn(
        "{} of {} answers are empty: the model or a stop string ended them at once, or "
        "--max_seq_len {} left no room",
        empty, rounds, options.max_seq_len);
}

int64_t count_answers(const std::vector<ModelAnswers>& models) {
  int64_t rounds = 0;
  for (const ModelAnswers& of_model : models)
    for (const AnsweredTest& answered : of_model.answers)
      rounds += static_cast<int64_t>(answered.rounds.size());
  return rounds;
}

// Of rank 0.
void write_metrics(const Options& options, const std::vector<GenerationTest>& tests,
                   const std::vector<ModelAnswers>& models) {
  std::vector<std::pair<std::string, AnswerReport>> reports;
  for (const ModelAnswers& of_model : models)
    if (const std::optional<AnswerReport> report = report_on(tests, of_model.answers)) {
      log("{}{}", of_model.model.empty() ? "" : of_model.model + ": ", report->text());
      reports.emplace_back(of_model.model, *report);
    }
  if (reports.empty()) return remove_reports(options.output);
  write_reports(options.output, reports);
}

}  // namespace

void generate(MpiSession& session, const ParsedOptions& parsed) {
  const Options& options = parsed.options;
  advise_on_memory(kAnswersTakeLess);
  Communicator& world = session.world();
  const AnswerFormat format = answer_format(options.output, options.csv);
  const std::vector<AnsweringModel> models = answering_models(Command::kGenerate, parsed, world);
  std::vector<GenerationTest> tests;
  collectively(world, [&] {
    for (const AnsweringModel& model : models) check_paths(Command::kGenerate, model.options);
    tests = read_generation_tests(options.input,
                                  options.score ? QuestionForm::kWithChoices : QuestionForm::kOpen);
    check_images_are_there(tests);
  });
  ComputeDevice device = open_compute_device(options, world, session.host());
  std::vector<std::unique_ptr<AnswerJournal>> journals;
  std::vector<ModelAnswers> answers;
  for (const AnsweringModel& model : models) {
    if (!model.name.empty()) log("answering with {}", model.name);
    Generation generation(world, model, device, tests);
    answers.push_back({model.name, generation.run()});
    warn_of_empty(options, answers.back().answers);
    journals.push_back(generation.take_journal());
  }
  begin_section(Section::kSave);
  collectively(world, [&] {
    if (world.rank() != 0) return;
    write_answers(options.output, format, tests, answers);
    write_metrics(options, tests, answers);
    for (const auto& journal : journals) journal->remove();
  });
  log("{} answers to {} tests in {}", count_answers(answers), tests.size(), options.output);
}

}  // namespace facet
