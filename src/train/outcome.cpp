#include "train/outcome.h"

#include <cmath>

#include "base/log.h"
#include "base/timer.h"
#include "train/export_plan.h"
#include "train/run_results.h"

namespace facet {

namespace {

std::string without_a_step(const Run& run) {
  const std::optional<LossScaler>& scaler = run.compute->scaler;
  return fmt::format(
      "none of the {} steps changed a weight: no gradient was finite{}", run.state.step,
      scaler ? fmt::format(", with loss scales down to {} (--initial_scale_power)", scaler->scale())
             : "");
}

// "" for a model that is worth something; the same text on every rank.
std::string why_useless(Run& run) {
  if (run.state.step > 0 && run.state.skipped_steps == run.state.step) return without_a_step(run);
  std::string text;
  const std::optional<CurvePoint> last = run.logs.last_evaluation();  // on rank 0
  if (last && !std::isfinite(last->loss))
    text = fmt::format("the loss of the last evaluation, after step {}, is {}", last->step,
                       last->loss);
  run.world.broadcast(text, 0);
  return text;
}

}  // namespace

void export_epoch(Run& run, EndOfRun end) {
  const ExportPlan plan = plan_exports(run.options, run.inputs->model->table);
  const int64_t epoch = run.state.epoch + 1;
  const bool last = end == EndOfRun::kYes;
  const std::optional<ExportKind> kind = last ? plan.last : plan.each;
  if (!kind || (!last && epoch % run.options.export_every != 0)) return;
  const std::string name = fmt::format("epoch-{}", epoch);
  const std::string why = why_useless(run);
  if (!why.empty()) return warn("{} is not exported: {}", name, why);
  const Timer timer;
  export_to(run, name, *kind);
  collectively(run.world, [&] {
    if (run.world.rank() == 0)
      remove_old_exports(run.options.output_dir, run.options.keep_exports, epoch);
  });
  run.logs.took(Work::kExport, timer.seconds());
}

void check_outcome(Run& run) {
  const std::string why = why_useless(run);
  if (why.empty()) return;
  throw CollectiveError(
      ExitCode::kNumericStop,
      fmt::format("the run ends without a usable model: {}; warnings and skipped steps above say "
                  "where the first such number is: look at the weights and the samples there",
                  why));
}

}  // namespace facet
