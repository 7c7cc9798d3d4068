#include "chat/answer_journal.h"

#include <algorithm>
#include <cstring>
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

bool is_line_file(const fs::path& path) {
  return path.filename().string().starts_with("start-") && path.extension() == ".jsonl";
}

// The files of lines in the directory, by name.
std::vector<std::string> line_files(const std::string& directory) {
  std::vector<std::string> files;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error))
    if (is_line_file(entry.path())) files.push_back(entry.path().string());
  CHECK(!error, ExitCode::kIo, "{}: {}", directory, error.message());
  std::sort(files.begin(), files.end());
  return files;
}

// "OUT.unfinished/start-3-rank-": a start's files have the number after the highest that is there.
std::string files_of_next_start(const std::string& directory) {
  int64_t last = 0;
  for (const std::string& file : line_files(directory)) {
    const std::string name = fs::path(file).filename().string();
    last = std::max<int64_t>(last, std::atoll(name.c_str() + std::strlen("start-")));
  }
  return fmt::format("{}/start-{}-rank-", directory, last + 1);
}

}  // namespace

AnswerJournal::AnswerJournal(const std::string& output, const std::string& identity,
                             Communicator& world)
    : directory_(output + ".unfinished") {
  std::string lines, files;
  collectively(world, [&] {
    if (world.rank() != 0) return;
    std::error_code error;
    CHECK(!fs::exists(output, error) || fs::is_regular_file(output, error), ExitCode::kConfig,
          "--output {} is no regular file; name the file that shall be written", output);
    make_directories(directory_);
    lock_ = std::make_unique<RunLock>(
        LockRequest{.output_dir = directory_, .another_place = "another --output"});
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

AnswerJournal::~AnswerJournal() {
  if (lock_ == nullptr) return;
  try {
    if (line_files(directory_).empty()) remove();
  } catch (const Error&) {  // a directory that cannot be read is not removed either
  }
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
    std::string text = read_file(file, kMaxLinesBytes);
    text.resize(text.rfind('\n') + 1);  // npos + 1 is 0
    answered_tests_of(text, file);      // what is none is refused by the file's own name
    lines += text;
  }
  return lines;
}

void AnswerJournal::append(const AnsweredTest& answered) const {
  append_to_file(path_, line_of(answered));
}

// In this order: a call killed in between leaves no lines that nothing says what they are of.
void AnswerJournal::remove() {
  std::error_code ignored;  // what is left is overwritten or continued by the next call
  for (const std::string& file : line_files(directory_)) fs::remove(file, ignored);
  fs::remove(directory_ + "/about", ignored);
  lock_.reset();
  fs::remove(directory_, ignored);
}

}  // namespace facet
