#include "job/slurm_job.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <sstream>
#include <string_view>

#include "base/check.h"

namespace facet {

namespace {

std::string environment_value(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

bool all_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

// The user's settings of squeue could hide the job: those of which jobs are shown are left out, and
// hidden partitions are shown.
std::vector<std::string> environment_of_squeue() {
  std::vector<std::string> settings{"SQUEUE_ALL=yes"};
  for (char** entry = environ; *entry != nullptr; ++entry)
    if (!std::string_view(*entry).starts_with("SQUEUE_")) settings.emplace_back(*entry);
  return settings;
}

CommandEnd run_squeue(const std::string& id, const std::string& format) {
  constexpr double kPatience = 20;  // seconds; squeue itself retries for minutes
  CHECK(is_job_id(id), ExitCode::kMissingInput, "'{}' is not the id of a Slurm job", id);
  return run_command({"squeue", "-h", "-j", id, "-o", format}, environment_of_squeue(), kPatience);
}

JobState meaning_of(const std::string& state) {
  constexpr std::array<std::string_view, 13> kThere = {
      "PENDING",     "RUNNING",      "SUSPENDED",    "STOPPED",  "CONFIGURING",
      "REQUEUED",    "REQUEUE_HOLD", "SIGNALING",    "RESIZING", "SPECIAL_EXIT",
      "REQUEUE_FED", "STAGE_OUT",    "RESV_DEL_HOLD"};
  constexpr std::array<std::string_view, 12> kGone = {
      "COMPLETED", "CANCELLED",     "FAILED",   "TIMEOUT",       "NODE_FAIL", "PREEMPTED",
      "BOOT_FAIL", "OUT_OF_MEMORY", "DEADLINE", "LAUNCH_FAILED", "REVOKED",   "RECONFIG_FAIL"};
  const auto is_in = [&](const auto& list) {
    return std::find(list.begin(), list.end(), state) != list.end();
  };
  if (is_in(kThere)) return JobState::kThere;
  return is_in(kGone) ? JobState::kGone : JobState::kUnknown;
}

}  // namespace

bool is_job_id(const std::string& text) {
  const size_t part = std::min(text.find_first_of("_+"), text.size());
  return text.size() <= 40 && all_digits(std::string_view(text).substr(0, part)) &&
         (part == text.size() || all_digits(std::string_view(text).substr(part + 1)));
}

SlurmJob SlurmJob::of_this_process() {
  SlurmJob job;
  job.number = environment_value("SLURM_JOB_ID");
  if (job.number.empty()) return job;
  const std::string array = environment_value("SLURM_ARRAY_JOB_ID");
  const std::string task = environment_value("SLURM_ARRAY_TASK_ID");
  job.id = array.empty() || task.empty() ? job.number : array + "_" + task;
  job.cluster = environment_value("SLURM_CLUSTER_NAME");
  const std::string restarts = environment_value("SLURM_RESTART_COUNT");
  std::from_chars(restarts.data(), restarts.data() + restarts.size(), job.restarts);
  return job;
}

std::string ask_squeue(const std::string& id, const std::string& format) {
  const CommandEnd answer = run_squeue(id, format);
  CHECK(answer.code == 0, ExitCode::kMissingInput, "{}",
        answer.text.empty() ? fmt::format("it ended with status {}", answer.code) : answer.text);
  return answer.text;
}

JobState parse_job_state(const CommandEnd& answer) {
  if (answer.code != 0)
    return answer.text.find("Invalid job id") != answer.text.npos ? JobState::kGone
                                                                  : JobState::kUnknown;
  if (answer.text.empty()) return JobState::kGone;
  bool all_gone = true;  // an id may stand for several: the parts of a job, the tasks of an array
  std::istringstream lines(answer.text);
  for (std::string state; lines >> state;) {
    if (meaning_of(state) == JobState::kThere) return JobState::kThere;
    all_gone = all_gone && meaning_of(state) == JobState::kGone;
  }
  return all_gone ? JobState::kGone : JobState::kUnknown;
}

JobState state_of_job(const std::string& id) {
  try {
    return parse_job_state(run_squeue(id, "%T"));
  } catch (const Error&) {
    return JobState::kUnknown;
  }
}

}  // namespace facet
