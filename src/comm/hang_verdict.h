// Decides from the ranks' progress which of them hang or died, and words the report.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "comm/host_watch.h"

namespace facet {

enum class ProcessState : uint8_t {
  kRuns,
  kStopped,  // by a signal or a debugger
  kGone,
};

// The progress of a rank, as another process sees it.
struct RankProgress {
  int64_t rank = 0;
  int64_t pid = 0;
  std::string host;
  ProcessState process = ProcessState::kRuns;
  bool leaving = false;  // exits on purpose
  Section section = Section::kStart;
  double idle = 0;  // seconds since its last progress
  int64_t step = 0;
  BegunCollective begun;    // the last collective it has begun
  BegunCollective awaited;  // the one it is waiting in; number 0: none
  int64_t num_samples = 0;
  std::vector<int64_t> samples;  // ids of the first ones
};

// Seconds that a rank may go without progress in each section; 0: no limit.
struct HangLimits {
  std::array<double, kNumSections> seconds{};
  double collective = 0;  // for a node whose ranks all wait for other nodes
  double host = 0;        // for another host, of which nothing is heard

  double of(Section section) const { return seconds[static_cast<size_t>(section)]; }
  double& of(Section section) { return seconds[static_cast<size_t>(section)]; }
};

// The first rank that exceeds its section's limit. A rank waiting in a collective waits for others
// and is not judged, unless all do: then the one that began to wait last is. Its limit is that of
// its section if `progress` covers all of the job's `ranks`, else the one for collectives, because
// whether ranks on other nodes make progress is not known here.
std::optional<RankProgress> late_rank(const std::vector<RankProgress>& progress, int64_t ranks,
                                      const HangLimits& limits);

// A rank that ended without note_leaving().
std::optional<RankProgress> dead_rank(const std::vector<RankProgress>& progress);

// Have all ranks that run here been waiting in collectives for that long?
bool all_wait(const std::vector<RankProgress>& progress, double seconds);

// A rank that the others have been waiting for that long and that is stopped, so that it cannot
// come.
std::optional<RankProgress> stopped_rank(const std::vector<RankProgress>& progress, double seconds);

// The ranks that the others wait for: those not running; else, of those outside a collective, the
// ones that have begun the fewest; else, if all wait, those in the earliest collective.
std::vector<RankProgress> ranks_behind(const std::vector<RankProgress>& progress);

// A line for each rank behind and one for each group of the others. `late` is the rank that
// exceeded the limit; `hosts` are those of all ranks of the job.
std::string hang_report(const std::vector<RankProgress>& progress,
                        const std::vector<std::string>& hosts, const RankProgress& late,
                        const HangLimits& limits);
// `lost` has the given ranks; `limit` is how long it may be silent.
std::string lost_host_report(const std::vector<RankProgress>& progress,
                             const std::vector<std::string>& hosts, const LostHost& lost,
                             const std::vector<int64_t>& ranks, double limit);
std::string death_report(const RankProgress& dead, const std::vector<RankProgress>& progress);

// "0-3, 7"
std::string rank_list(std::vector<int64_t> ranks);

}  // namespace facet
