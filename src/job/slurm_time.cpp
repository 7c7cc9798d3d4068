#include "job/slurm_time.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string_view>

#include "base/check.h"
#include "job/slurm_job.h"

namespace facet {

namespace {

// SLURM_JOB_END_TIME, which newer versions set: seconds since 1970.
std::optional<double> seconds_to_end_time() {
  const char* const text = std::getenv("SLURM_JOB_END_TIME");
  if (text == nullptr) return std::nullopt;
  int64_t end = 0;
  const char* const last = text + std::strlen(text);
  const auto [rest, error] = std::from_chars(text, last, end);
  if (error != std::errc() || rest != last || end <= 0) return std::nullopt;
  return std::max(0.0, static_cast<double>(end - std::time(nullptr)));
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
  const SlurmJob job = SlurmJob::of_this_process();
  if (!job.known()) return std::nullopt;
  try {
    return parse_slurm_time(ask_squeue(job.id, "%L"));
  } catch (const Error&) {
    const std::optional<double> left = seconds_to_end_time();
    if (!left) throw;
    return left;
  }
}

}  // namespace facet
