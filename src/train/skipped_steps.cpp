#include "train/skipped_steps.h"

#include <cmath>

namespace facet {

void explain_skipped_step(Run& run, const StepReport& report) {
  const bool scale_follows = run.compute->scaler && run.options.loss_scale == 0;
  const int64_t in_a_row = run.state.bad_steps_in_a_row;
  const bool hopeless =
      scale_follows ? report.scale_exhausted : in_a_row >= run.options.max_bad_steps;
  // The environment, where faults may be named too, need not be the same on every host.
  const bool poisoned = run.world.max(int64_t{run.faults.poisons_anybody(report.step)}) != 0;
  // A loss that is not finite has nothing to do with the scale.
  if (scale_follows && !hopeless && !poisoned && std::isfinite(report.loss)) return;
  const std::string place =
      fmt::format("step {}: {}", report.step, run.compute->step.find_non_finite());
  if (!hopeless) return run.logs.line(place);
  const std::string why =
      scale_follows
          ? fmt::format("an overflow at the smallest loss scale, {}", report.loss_scale)
          : fmt::format("{} steps in a row without a finite gradient (--max_bad_steps)", in_a_row);
  throw CollectiveError(
      ExitCode::kNumericStop,
      fmt::format("{}; {}; try a lower --learning_rate, or look at the samples", why, place));
}

}  // namespace facet
