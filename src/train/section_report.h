// How long the sections of a run take: up to the first step, those of a step every few steps with
// --wall_clock_breakdown, and which rank is the slowest (--straggler_interval).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/progress.h"
#include "comm/communicator.h"
#include "options/options.h"
#include "train/step_report.h"

namespace facet {

struct Straggler {
  size_t rank = 0;
  Section section = Section::kData;
  double seconds = 0, median = 0;  // of that rank, and of all, in that section
};

// From each rank's seconds outside collectives: the rank with most of them within its steps, and
// the section in which it exceeds the median by most.
Straggler slowest_rank(const std::vector<SectionTimes>& ranks);

// "2 (host n7)" and how many times the median: one line.
std::string straggler_text(const Straggler& straggler, const std::string& host, int64_t steps);
// "start 0.31 s, load 0.20 s, ..."
std::string first_step_text(const SectionTimes& times);
// Milliseconds a step: its phases, then saves and what else came between the steps. The collectives
// are a part of all these.
std::string breakdown_text(const PhaseTimes& phases, const SectionTimes& times, int64_t steps);

class SectionReport {
 public:
  // Collective.
  SectionReport(const Options& options, Communicator& world, const std::string& host);

  // Collective. Returns the lines to be printed, on rank 0 only.
  std::vector<std::string> after_step(const StepReport& report);

 private:
  std::string break_down();
  std::string find_straggler();

  const Options& options_;
  Communicator& world_;
  std::vector<std::string> hosts_;
  int64_t steps_ = 0;  // of this process
  int64_t steps_at_straggler_ = 0, steps_at_breakdown_ = 0;
  SectionTimes at_straggler_, at_breakdown_;
  PhaseTimes phases_;  // since the last breakdown
};

}  // namespace facet
