#include "train/run_results.h"

#include <cmath>

#include "base/log.h"
#include "base/progress.h"
#include "train/evaluate.h"

namespace facet {

namespace {

void note_best(Run& run, const EvalReport& report) {
  RunState& state = run.state;
  if (state.best_step >= 0 && !(report.loss < state.best_loss)) return;
  if (!std::isfinite(report.loss)) return;
  state.best_step = report.step;
  state.best_loss = report.loss;
  if (run.options.keep_best) export_to(run, "best");
}

}  // namespace

void evaluate_now(Run& run) {
  RunState& state = run.state;
  const DataSetup& data = *run.inputs->data;
  const bool known = state.last_evaluation == state.step;
  if (known || data.source->num_evaluation_micro_batches() == 0) return;
  run.checkpoints->settle(run.logs);  // before a long time without steps
  state.last_evaluation = state.step;
  EvalReport report = evaluate(*run.inputs->model, run.compute->context, run.world, *data.source,
                               run.inputs->num_datasets());
  report.step = state.step;
  report.epoch = state.step / run.inputs->plan.steps_per_epoch;
  collectively(run.world, [&] { check_bad_fraction(run.options, data, report); });
  note_best(run, report);
  run.logs.append(report);
  if (!report.non_finite.empty())
    warn("the loss of the evaluation after step {} is {}; first number that is not finite: {}",
         report.step, report.loss, report.non_finite);
}

void export_to(Run& run, const std::string& name) {
  run.checkpoints->settle(run.logs);
  const InSection section(Section::kSave);
  const std::string directory = fmt::format("{}/{}", run.options.output_dir, name);
  collectively(run.world, [&] {
    run.compute->engine.read_on_rank_0([&](const OpenUnit& open_unit) {
      export_weights(run.options, *run.inputs->model, directory, open_unit);
    });
  });
  run.logs.line(fmt::format("exported {}", directory));
}

}  // namespace facet
