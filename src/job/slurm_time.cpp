#include "job/slurm_time.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "base/check.h"
#include "base/log.h"

namespace facet {

namespace {

std::string without_blanks_around(const std::string& text) {
  constexpr const char* kBlanks = " \t\r\n";
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(kBlanks) + 1 - begin);
}

// The output of the command, with a timeout, because squeue retries an unresponsive controller for
// minutes.
std::string output_of(const std::string& command) {
  constexpr const char* kPatience = "timeout 20 ";
  std::FILE* const pipe = ::popen((kPatience + command + " 2>&1").c_str(), "r");
  CHECK(pipe != nullptr, ExitCode::kMissingInput, "no process can be started");
  std::string text;
  std::array<char, 256> piece;
  while (const size_t count = std::fread(piece.data(), 1, piece.size(), pipe))
    text.append(piece.data(), count);
  const int status = ::pclose(pipe);
  text = without_blanks_around(text);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, ExitCode::kMissingInput, "{}",
        text.empty() ? fmt::format("it ended with status {}", status) : text);
  return text;
}

}  // namespace

std::optional<double> parse_slurm_time(const std::string& text) {
  if (text == "UNLIMITED" || text == "NOT_SET" || text == "INVALID") return std::nullopt;
  constexpr int64_t kSecondsOfDay = 86400;
  constexpr int64_t kLargest = 1'000'000'000;  // more than Slurm prints, and no sum overflows
  std::string_view rest = text;
  const auto take_number = [&](char separator, int64_t& number) {
    const std::string_view digits = rest.substr(0, std::min(rest.find(separator), rest.size()));
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    rest.remove_prefix(std::min(digits.size() + 1, rest.size()));
    return error == std::errc() && end == digits.data() + digits.size() && number >= 0 &&
           number <= kLargest;
  };
  int64_t days = 0, seconds = 0;
  bool fine = !text.ends_with(':') && std::count(text.begin(), text.end(), ':') <= 2;
  if (rest.find('-') != rest.npos) fine = fine && take_number('-', days);
  do {
    int64_t field = 0;
    fine = fine && take_number(':', field);
    if (fine) seconds = seconds * 60 + field;
  } while (fine && !rest.empty());
  CHECK(fine, ExitCode::kBadData, "'{}' is not a time", text);
  return static_cast<double>(days * kSecondsOfDay + seconds);
}

std::optional<double> slurm_seconds_left() {
  const char* const job = std::getenv("SLURM_JOB_ID");
  if (job == nullptr) return std::nullopt;
  try {
    const std::string id = job;
    CHECK(!id.empty() && id.find_first_not_of("0123456789") == id.npos, ExitCode::kBadData,
          "SLURM_JOB_ID is '{}'", id);
    const std::optional<double> left =
        parse_slurm_time(output_of(fmt::format("squeue -h -j {} -o %L", id)));
    if (left) log("Slurm job {}: {:.0f} s left; will save and stop before that", id, *left);
    return left;
  } catch (const Error& error) {
    warn("cannot get the job's time limit from squeue ({}); give --max_hours to save before it",
         error.what());
    return std::nullopt;
  }
}

}  // namespace facet
