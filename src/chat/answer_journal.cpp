#include "chat/answer_journal.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "base/check.h"
#include "comm/mpi_session.h"
#include "io/file.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxAboutBytes = int64_t{1} << 20;
constexpr int64_t kMaxLinesBytes = int64_t{1} << 32;

// The files of lines in the directory, by name.
std::vector<std::string> line_files(const std::string& directory) {
  std::vector<std::string> files;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error))
    if (entry.path().extension() == ".jsonl") files.push_back(entry.path().string());
  CHECK(!error, ExitCode::kIo, "{}: {}", directory, error.message());
  std::sort(files.begin(), files.end());
  return files;
}

// "OUT.unfinished/start-3-rank-": a start's files have the number after the highest that is there.
std::string files_of_next_start(const std::string& directory) {
  int64_t last = 0;
  for (const std::string& file : line_files(directory)) {
    const std::string name = fs::path(file).filename().string();
    if (name.starts_with("start-")) last = std::max<int64_t>(last, std::atoll(name.c_str() + 6));
  }
  return fmt::format("{}/start-{}-rank-", directory, last + 1);
}

}  // namespace

AnswerJournal::AnswerJournal(std::string output, const std::string& identity, Communicator& world)
    : directory_(std::move(output) + ".unfinished") {
  std::string lines, files;
  collectively(world, [&] {
    if (world.rank() != 0) return;
    make_directories(directory_);
    lines = whole_lines();
    files = files_of_next_start(directory_);
    claim(identity, !lines.empty());
  });
  world.broadcast(lines, 0);
  world.broadcast(files, 0);
  path_ = fmt::format("{}{}.jsonl", files, world.rank());
  std::set<std::pair<int64_t, int64_t>> seen;
  for (AnsweredTest& answered : answered_tests_of(lines, directory_))
    if (seen.emplace(answered.test, answered.number).second)
      finished_.push_back(std::move(answered));
}

// Says in the directory what the answers are of. Those that are there must be of the same.
void AnswerJournal::claim(const std::string& identity, bool has_answers) const {
  const std::string about = directory_ + "/about";
  if (!has_answers) return write_file(about, identity);
  CHECK(read_file(about, kMaxAboutBytes) == identity, ExitCode::kConfig,
        "{} holds the answers so far of a call with other questions, another model or other "
        "options ({} says which); give the same again to go on with it, remove it, or name another "
        "--output",
        directory_, about);
}

std::string AnswerJournal::whole_lines() const {
  std::string lines;
  for (const std::string& file : line_files(directory_)) {
    const std::string text = read_file(file, kMaxLinesBytes);
    lines += text.substr(0, text.rfind('\n') + 1);  // npos + 1 is 0
  }
  return lines;
}

void AnswerJournal::append(const AnsweredTest& answered) const {
  append_to_file(path_, line_of(answered));
}

void AnswerJournal::remove() const {
  std::error_code ignored;  // what is left is overwritten or continued by the next call
  fs::remove_all(directory_, ignored);
}

}  // namespace facet
