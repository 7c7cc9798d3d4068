#include "train/time_left.h"

#include <algorithm>
#include <numeric>

namespace facet {

namespace {

// Multiples of `each` from first to last; first is at least 1. 0: there are none.
int64_t multiples(int64_t each, int64_t first, int64_t last) {
  return each > 0 && first <= last ? last / each - (first - 1) / each : 0;
}

// Multiples of both; each of them is at least 1.
int64_t common_multiples(int64_t a, int64_t b, int64_t first, int64_t last) {
  const int64_t share = a / std::gcd(a, b);
  return share <= last / b ? multiples(share * b, first, last) : 0;
}

// The last step counts too, if it is none of the multiples.
int64_t multiples_and_last(int64_t each, int64_t first, int64_t last) {
  const bool is_multiple = each > 0 && last % each == 0;
  return multiples(each, first, last) + (first <= last && !is_multiple ? 1 : 0);
}

// The end of an epoch, and of the run, is saved before and after its evaluation and export, and not
// once more for --save_interval.
int64_t saves(const WorkPlan& plan, int64_t epochs, int64_t first, int64_t last) {
  const int64_t each = plan.save_interval, epoch = plan.steps_per_epoch;
  if (each == 0 || epoch == 0) return 2 * epochs;
  const bool ends_within = last % epoch != 0 && last % each == 0 && first <= last;
  return 2 * epochs + multiples(each, first, last) - common_multiples(each, epoch, first, last) -
         (ends_within ? 1 : 0);
}

}  // namespace

WorkLeft work_left(const WorkPlan& plan, int64_t step) {
  const int64_t first = std::max<int64_t>(step, 1), last = plan.total_steps;
  const int64_t epochs = multiples_and_last(plan.steps_per_epoch, first, last);
  const auto or_epoch = [&](int64_t interval) {
    return interval > 0 ? interval : plan.steps_per_epoch;
  };
  WorkLeft left;
  left.of(Work::kStep) = std::max<int64_t>(last - step, 0);
  left.of(Work::kEvaluation) =
      plan.evaluates ? multiples_and_last(or_epoch(plan.eval_interval), first, last) : 0;
  left.of(Work::kSampling) =
      plan.samples ? multiples_and_last(or_epoch(plan.sample_interval), first, last) : 0;
  left.of(Work::kSave) = saves(plan, epochs, first, last);
  left.of(Work::kExport) =
      plan.export_every > 0
          ? multiples_and_last(plan.steps_per_epoch * plan.export_every, first, last)
          : 0;
  return left;
}

void WorkTimes::add(Work work, double seconds) {
  seconds_[static_cast<size_t>(work)] += seconds;
  ++times_[static_cast<size_t>(work)];
}

double WorkTimes::mean(Work work) const {
  const auto times = static_cast<double>(times_[static_cast<size_t>(work)]);
  return times > 0 ? seconds_[static_cast<size_t>(work)] / times : 0;
}

// Every save starts the clock of --save_minutes again: only where the others are further apart does
// it make more of them.
double seconds_left(const WorkPlan& plan, int64_t step, const WorkTimes& times) {
  const WorkLeft left = work_left(plan, step);
  double seconds = 0;
  for (const Work work :
       {Work::kStep, Work::kEvaluation, Work::kSave, Work::kExport, Work::kSampling})
    seconds += static_cast<double>(left.of(work)) * times.mean(work);
  if (plan.save_minutes <= 0) return seconds;
  const auto by_the_clock = static_cast<int64_t>(seconds / (60 * plan.save_minutes));
  const int64_t more = std::max<int64_t>(by_the_clock - left.of(Work::kSave), 0);
  return seconds + static_cast<double>(more) * times.mean(Work::kSave);
}

}  // namespace facet
