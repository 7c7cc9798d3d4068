// Who does not get on, and what is said about it: decided from where the ranks stand.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"

namespace facet {

enum class ProcessState : uint8_t {
  kRuns,
  kStopped,  // by a signal or a debugger
  kGone,
};

// Where a rank stands, as another process sees it.
struct RankProgress {
  int64_t rank = 0;
  int64_t pid = 0;
  std::string host;
  ProcessState process = ProcessState::kRuns;
  bool leaving = false;  // ends in order
  Section section = Section::kStart;
  double idle = 0;  // seconds since it last got on
  int64_t step = 0;
  BegunCollective begun;    // the last one
  BegunCollective awaited;  // the one it waits in; number 0: none
  int64_t num_samples = 0;
  std::vector<int64_t> samples;  // the first ones
};

// Seconds that a rank may stay without progress in each section; 0: for ever.
struct HangLimits {
  std::array<double, kNumSections> seconds{};
  double collective = 0;  // where all ranks of a node wait for those of other nodes

  double of(Section section) const { return seconds[static_cast<size_t>(section)]; }
  double& of(Section section) { return seconds[static_cast<size_t>(section)]; }
};

// The first rank that is over its section's limit. Who waits in a collective waits for others and
// is not judged, unless all do: then the one that came last, by its section's limit where these are
// all of the job's `ranks`, else by that of collectives: whether those on other nodes get on is not
// known here.
std::optional<RankProgress> late_rank(const std::vector<RankProgress>& positions, int64_t ranks,
                                      const HangLimits& limits);

// A rank that ended without saying so.
std::optional<RankProgress> dead_rank(const std::vector<RankProgress>& positions);

// Whom the others wait for: those that do not run; else of those outside a collective the ones that
// have begun the fewest; else, all waiting, those in the earliest collective.
std::vector<RankProgress> ranks_behind(const std::vector<RankProgress>& positions);

// A line on each rank behind and one on each group of the others. `late` is who gave the alarm;
// `hosts` are those of all ranks.
std::string hang_report(const std::vector<RankProgress>& positions,
                        const std::vector<std::string>& hosts, const RankProgress& late,
                        const HangLimits& limits);
std::string death_report(const RankProgress& dead, const std::vector<RankProgress>& positions);

// "0-3, 7"
std::string rank_list(std::vector<int64_t> ranks);

}  // namespace facet
