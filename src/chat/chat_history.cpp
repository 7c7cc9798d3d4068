#include "chat/chat_history.h"

#include <fmt/format.h>

#include <filesystem>
#include <utility>

#include "base/check.h"
#include "io/file.h"
#include "io/json.h"

namespace facet {

namespace {

std::string answers_file(const std::string& path) { return path + ".answers.jsonl"; }

std::string text_of(const std::vector<GenerationTest>& tests) {
  JsonWriter writer;
  writer.begin_object();
  for (const GenerationTest& test : tests) {
    writer.key(test.name).begin_array();
    for (const GenerationRound& round : test.rounds) {
      writer.begin_array();
      writer.value(round.question);
      writer.begin_array();
      for (const std::string& image : round.images) writer.value(image);
      writer.end_array();
      writer.end_array();
    }
    writer.end_array();
  }
  writer.end_object();
  return writer.take();
}

}  // namespace

ChatHistory::ChatHistory(std::string path) : path_(std::move(path)) {
  if (path_.empty()) return;
  std::error_code error;
  for (const std::string& file : {path_, answers_file(path_)})
    CHECK(!std::filesystem::exists(file, error), ExitCode::kConfig,
          "--history {}: {} is there already; name another file, or move that away", path_, file);
  CHECK(std::filesystem::is_directory(directory_of(path_), error), ExitCode::kMissingInput,
        "--history {}: there is no directory {}", path_, directory_of(path_));
}

void ChatHistory::add(const GenerationRound& round, const Answer& answer) {
  tests_.back().rounds.push_back(round);
  answers_.back().rounds.push_back(answer);
  save();
}

void ChatHistory::undo() {
  tests_.back().rounds.pop_back();
  answers_.back().rounds.pop_back();
  save();
}

void ChatHistory::begin_anew() {
  if (tests_.back().rounds.empty()) return;
  tests_.push_back({fmt::format("chat-{}", tests_.size() + 1), {}});
  answers_.push_back({static_cast<int64_t>(answers_.size()), 0, {}});
}

// A conversation in which nothing was said is left out: it would be no test.
void ChatHistory::save() const {
  if (path_.empty()) return;
  std::vector<GenerationTest> tests = tests_;
  std::vector<AnsweredTest> answers = answers_;
  if (tests.back().rounds.empty()) {
    tests.pop_back();
    answers.pop_back();
  }
  write_file(path_, text_of(tests));
  write_answers(answers_file(path_), AnswerFormat::kJsonLines, tests, {{"", answers}});
}

}  // namespace facet
