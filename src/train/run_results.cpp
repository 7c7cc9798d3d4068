#include "train/run_results.h"

#include <cmath>

#include "base/log.h"
#include "base/progress.h"
#include "base/timer.h"
#include "train/evaluate.h"
#include "train/export_plan.h"
#include "train/run_report.h"
#include "train/stop_request.h"

namespace facet {

namespace {

EvalReport evaluate_all(Run& run) {
  EvalReport report = evaluate(*run.inputs->model, run.compute->context, run.world,
                               *run.inputs->data->source, run.inputs->num_datasets(), [&] {
                                 give_a_chance_to_stop(run);
                                 run.faults.at("evaluate", run.world.rank(), run.state.step);
                               });
  report.step = run.state.step;
  report.epoch = run.state.step / run.inputs->plan.steps_per_epoch;
  return report;
}

bool is_best(const RunState& state, const EvalReport& report) {
  const bool first = state.best_step < 0;
  return std::isfinite(report.loss) && (first || report.loss < state.best_loss);
}

// On rank 0: the export, which is written a megabyte at a time. Every so often, between two pieces,
// all ranks meet for a chance to stop.
void write_export(Run& run, const std::string& directory, ExportKind kind,
                  const OpenUnit& open_unit, const Values::Meet& meet) {
  constexpr double kSecondsBetween = 0.2;
  Timer since_met;
  const ModelSetup& model = *run.inputs->model;
  export_model(directory, model.table, model.config, export_sources(run.options, model),
               {.kind = kind, .type = export_type(run.options)}, read_through(open_unit), [&] {
                 run.faults.at("export", run.world.rank(), run.state.step);
                 if (since_met.seconds() < kSecondsBetween) return;
                 meet();
                 since_met.restart();
               });
}

}  // namespace

// The state changes last: a run that ends before begins this evaluation again.
void evaluate_now(Run& run) {
  RunState& state = run.state;
  const DataSetup& data = *run.inputs->data;
  const bool known = state.last_evaluation == state.step;
  if (known || data.source->num_evaluation_micro_batches() == 0) return;
  const Timer timer;
  share_features(run);
  const EvalReport report = evaluate_all(run);
  collectively(run.world, [&] { check_bad_fraction(run.options, data, report); });
  const bool best = is_best(state, report);
  if (best && run.options.keep_best)
    export_to(run, "best", *plan_exports(run.options, run.inputs->model->table).each);
  collectively(run.world, [&] { run.logs.append(report); });
  if (best) {
    state.best_step = report.step;
    state.best_loss = report.loss;
  }
  state.last_evaluation = state.step;
  run.checkpoints->note_bad_samples(state, run.inputs->bad_samples.get());
  run.logs.took(Work::kEvaluation, timer.seconds());
  if (!report.non_finite.empty())
    warn("the loss of the evaluation after step {} is {}; first number that is not finite: {}",
         report.step, report.loss, report.non_finite);
}

void export_to(Run& run, const std::string& name, ExportKind kind) {
  run.checkpoints->settle(run.logs);
  const InSection section(Section::kSave);
  const std::string directory = fmt::format("{}/{}", run.options.output_dir, name);
  collectively(run.world, [&] {
    run.compute->engine.read_on_rank_0(
        [&](const OpenUnit& open_unit, const Values::Meet& meet) {
          write_export(run, directory, kind, open_unit, meet);
        },
        [&] { give_a_chance_to_stop(run); });
  });
  run.logs.line(fmt::format("exported {} ({})", directory, text_of(kind)));
}

}  // namespace facet
