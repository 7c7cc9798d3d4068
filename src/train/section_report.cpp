#include "train/section_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

namespace facet {

namespace {

// What a rank does in a step between exchanges with the others.
constexpr std::array kWork = {Section::kData, Section::kCompute, Section::kUpdate, Section::kSave,
                              Section::kLog};

double work_of(const SectionTimes& times) {
  double seconds = 0;
  for (const Section section : kWork) seconds += times.of(section);
  return seconds;
}

double collectives_of(const SectionTimes& times) {
  double seconds = 0;
  for (const Section section : kWork) seconds += times.collectives_of(section);
  return seconds;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

double median_of(const std::vector<SectionTimes>& ranks, Section section) {
  std::vector<double> seconds;
  for (const SectionTimes& times : ranks) seconds.push_back(times.of(section));
  return median(std::move(seconds));
}

}  // namespace

Straggler slowest_rank(const std::vector<SectionTimes>& ranks) {
  const auto least_work = [](const SectionTimes& a, const SectionTimes& b) {
    return work_of(a) < work_of(b);
  };
  Straggler straggler;
  straggler.rank =
      static_cast<size_t>(std::max_element(ranks.begin(), ranks.end(), least_work) - ranks.begin());
  double most = -1;
  for (const Section section : kWork) {
    const double seconds = ranks[straggler.rank].of(section);
    const double usual = median_of(ranks, section);
    if (seconds - usual <= most) continue;
    most = seconds - usual;
    straggler = {straggler.rank, section, seconds, usual};
  }
  return straggler;
}

std::string straggler_text(const Straggler& straggler, const std::string& host, int64_t steps) {
  return fmt::format(
      "slowest of the last {} steps: rank {} (host {}) in {}, {:.2f} x the median ({:.3g} s "
      "against "
      "{:.3g} s)",
      steps, straggler.rank, host, name_of(straggler.section),
      straggler.median > 0 ? straggler.seconds / straggler.median : 1.0, straggler.seconds,
      straggler.median);
}

std::string first_step_text(const SectionTimes& times) {
  std::string text = fmt::format("the first step ended {:.2f} s after the start:", times.total());
  for (const Section section : {Section::kStart, Section::kLoad, Section::kEvaluate})
    text += fmt::format(" {} {:.2f},", name_of(section),
                        times.of(section) + times.collectives_of(section));
  for (const Section section : {Section::kData, Section::kCompute, Section::kUpdate})
    text += fmt::format(" {} {:.2f},", name_of(section), times.of(section));
  return text + fmt::format(" collectives {:.2f}", collectives_of(times));
}

std::string breakdown_text(const PhaseTimes& phases, const SectionTimes& times, int64_t steps) {
  constexpr std::array kPhaseNames = {"data", "forward", "backward", "reduce", "step"};
  static_assert(kPhaseNames.size() == kNumStepPhases);
  std::string text = fmt::format("time (ms) of a step, mean of {}:", steps);
  const double scale = 1e3 / static_cast<double>(steps);
  for (size_t i = 0; i < kNumStepPhases; ++i)
    text += fmt::format(" {} {:.2f},", kPhaseNames[i],
                        scale * phases.seconds(static_cast<StepPhase>(i)));
  for (const Section section : {Section::kSave, Section::kLog})
    text += fmt::format(" {} {:.2f},", name_of(section),
                        scale * (times.of(section) + times.collectives_of(section)));
  return text + fmt::format(" of which in collectives {:.2f}", scale * collectives_of(times));
}

SectionReport::SectionReport(const Options& options, Communicator& world, const std::string& host)
    : options_(options),
      world_(world),
      hosts_(world.all_gather(host)),
      at_straggler_(section_times()),
      at_breakdown_(at_straggler_) {}

std::vector<std::string> SectionReport::after_step(const StepReport& report) {
  std::vector<std::string> lines;
  phases_ += report.phases;
  if (++steps_ == 1) lines.push_back(first_step_text(section_times()));
  if (options_.wall_clock_breakdown && report.step % options_.steps_per_print == 0)
    lines.push_back(break_down());
  if (options_.straggler_interval > 0 && report.step % options_.straggler_interval == 0)
    lines.push_back(find_straggler());
  return lines;
}

std::string SectionReport::break_down() {
  const SectionTimes now = section_times();
  std::string text = breakdown_text(phases_, now - at_breakdown_, steps_ - steps_at_breakdown_);
  phases_ = {};
  at_breakdown_ = now;
  steps_at_breakdown_ = steps_;
  return text;
}

std::string SectionReport::find_straggler() {
  const SectionTimes now = section_times(), mine = now - at_straggler_;
  const std::span<const double> all = world_.all_gather(mine.own);
  std::vector<SectionTimes> ranks(hosts_.size());
  for (size_t i = 0; i < all.size(); ++i) ranks[i / kNumSections].own[i % kNumSections] = all[i];
  const Straggler straggler = slowest_rank(ranks);
  std::string text =
      straggler_text(straggler, hosts_[straggler.rank], steps_ - steps_at_straggler_);
  at_straggler_ = now;
  steps_at_straggler_ = steps_;
  return text;
}

}  // namespace facet
