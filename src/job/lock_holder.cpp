#include "job/lock_holder.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <random>
#include <sstream>
#include <string_view>

#include "base/check.h"

namespace facet {

namespace {

// Words of the line hold no blanks, and nothing that a terminal would obey.
bool is_word(std::string_view text) {
  constexpr size_t kLongest = 255;
  const auto allowed = [](char c) { return c > ' ' && c <= '~'; };
  return !text.empty() && text.size() <= kLongest && std::all_of(text.begin(), text.end(), allowed);
}

std::string as_word(const std::string& text) { return is_word(text) ? text : "unknown"; }

std::optional<int64_t> number_in(const std::string& text) {
  int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && rest == end && number >= 0 ? std::optional(number) : std::nullopt;
}

std::string host_of_this_process() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return name;
}

std::string boot_of_this_machine() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  return id;
}

std::string random_word() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

bool set_field(LockHolder& holder, const std::string& name, const std::string& value) {
  if (name == "host") holder.host = value;
  if (name == "job") holder.job = value;
  if (name == "cluster") holder.cluster = value;
  if (name == "boot") holder.boot = value;
  if (name == "run") holder.run = value;
  if (name == "restarts") holder.restarts = number_in(value);
  if (name == "pid") holder.pid = number_in(value).value_or(0);
  return name != "pid" || holder.pid > 0;
}

}  // namespace

LockHolder LockHolder::this_process(const SlurmJob& job) {
  LockHolder me;
  me.host = as_word(host_of_this_process());
  me.pid = getpid();
  if (job.known()) me.job = as_word(job.id);
  if (!job.cluster.empty()) me.cluster = as_word(job.cluster);
  me.boot = boot_of_this_machine();
  if (job.known()) me.restarts = job.restarts;
  me.run = random_word();
  return me;
}

std::optional<LockHolder> LockHolder::parse(const std::string& text) {
  LockHolder holder;
  std::istringstream words(text.substr(0, text.find('\n')));
  for (std::string name, value; words >> name >> value;)
    if (!is_word(name) || !is_word(value) || !set_field(holder, name, value)) return std::nullopt;
  if (holder.host.empty() || holder.pid == 0) return std::nullopt;
  return holder;
}

std::string LockHolder::name() const {
  return fmt::format("host {} pid {} job {}", host, pid, job);
}

std::string LockHolder::line() const {
  std::string line = name();
  if (restarts) line += fmt::format(" restarts {}", *restarts);
  if (!cluster.empty()) line += " cluster " + cluster;
  if (!boot.empty()) line += " boot " + boot;
  if (!run.empty()) line += " run " + run;
  return line + "\n";
}

LockHolder::Machine LockHolder::machine_of(const LockHolder& other) const {
  const bool same_name = host == other.host;
  if (boot.empty() || other.boot.empty()) return same_name ? Machine::kSame : Machine::kOther;
  if (boot == other.boot) return same_name ? Machine::kSame : Machine::kPerhaps;
  return Machine::kOther;
}

JobState state_of_holder(const LockHolder& holder, const SlurmJob& mine) {
  if (!is_job_id(holder.job)) return JobState::kUnknown;
  const bool other_cluster =
      !holder.cluster.empty() && !mine.cluster.empty() && holder.cluster != mine.cluster;
  if (other_cluster) return JobState::kUnknown;
  if (mine.known() && (holder.job == mine.id || holder.job == mine.number)) {
    const bool earlier_life = !holder.restarts || *holder.restarts < mine.restarts;
    return earlier_life ? JobState::kGone : JobState::kUnknown;
  }
  return state_of_job(holder.job);
}

}  // namespace facet
