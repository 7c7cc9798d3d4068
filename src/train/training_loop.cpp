#include "train/training_loop.h"

#include <cmath>

#include "base/log.h"
#include "base/progress.h"
#include "train/outcome.h"
#include "train/run_report.h"
#include "train/run_results.h"
#include "train/skipped_steps.h"

namespace facet {

namespace {

void count(const StepReport& report, RunState& state) {
  state.samples_seen += report.samples;
  state.skipped_steps += report.skipped;
  state.bad_steps_in_a_row = report.skipped ? state.bad_steps_in_a_row + 1 : 0;
  state.unlabelled_micro_batches += report.unlabelled_micro_batches;
  for (const LossOfDataset& dataset : report.datasets) {
    if (!std::isfinite(dataset.loss_sum)) continue;
    state.epoch_loss_sum += dataset.loss_sum;
    state.epoch_labelled_tokens += dataset.labelled_tokens;
  }
}

}  // namespace

void TrainingLoop::run() {
  if (!work_left()) log("all {} steps are done; nothing to do", state_.step);
  if (state_.step == 0) evaluate_now(run_);
  while (work_left() && !stopped_) {
    train_epoch();
    if (!stopped_) close_epoch();
  }
  if (stopped_) return;
  run_.checkpoints->settle(run_.logs);  // the last one
  report_memory(run_);
  report_left_out(run_);
  check_outcome(run_);
}

// From where the epoch stands to its end, or to the run's.
void TrainingLoop::train_epoch() {
  while (!epoch_over()) {
    const StepReport report = take_step();
    finish_step(report);
    const SaveSchedule::Wish wish = run_.checkpoints->after_step(report.step, run_.logs);
    const bool saves = wish != SaveSchedule::Wish::kNone && !epoch_over();  // its end saves anyway
    if (saves || SaveSchedule::stops(wish)) save();
    if (SaveSchedule::stops(wish)) return stop(wish);
  }
}

StepReport TrainingLoop::take_step() {
  const int64_t sent_before = run_.world.elements_sent();
  note_step(state_.step + 1);
  StepReport report = run_.compute->step.run(state_.epoch, state_.next_step);
  report.step = ++state_.step;
  report.epoch = state_.epoch + 1;
  ++state_.next_step;
  run_.status.set_step(report.step);
  if (report.step == 1) report_traffic(run_, report, run_.world.elements_sent() - sent_before);
  count(report, state_);
  return report;
}

// What follows a step before anything is saved.
void TrainingLoop::finish_step(const StepReport& report) {
  run_.logs.append(report);
  for (const std::string& line : run_.sections.after_step(report.step)) run_.logs.line(line);
  write_recording();
  if (report.skipped) explain_skipped_step(run_, report);
  const int64_t interval = run_.options.eval_interval;
  if (interval > 0 && report.step % interval == 0) evaluate_now(run_);
  run_.faults.at("step", run_.world.rank(), report.step);
}

// Evaluation, plot, export and checkpoint after an epoch's last step.
void TrainingLoop::close_epoch() {
  if (state_.epoch_labelled_tokens > 0)
    run_.logs.line(
        fmt::format("epoch {}: loss={:.6g} over {} labelled tokens", state_.epoch + 1,
                    state_.epoch_loss_sum / static_cast<double>(state_.epoch_labelled_tokens),
                    state_.epoch_labelled_tokens));
  if (run_.options.eval_interval == 0 || finished()) evaluate_now(run_);
  collectively(run_.world, [&] { run_.logs.draw_curve(); });
  export_epoch(run_);
  state_.closed_step = state_.step;
  if (epoch_complete()) begin_next_epoch();  // else --max_steps ended the run within it
  save();
  const SaveSchedule::Wish wish = run_.checkpoints->after_step(state_.step, run_.logs);
  if (SaveSchedule::stops(wish) && work_left()) stop(wish);
}

void TrainingLoop::begin_next_epoch() {
  ++state_.epoch;
  state_.next_step = 0;
  state_.epoch_loss_sum = 0;
  state_.epoch_labelled_tokens = 0;
}

void TrainingLoop::write_recording() {
  RecordingSource* const recording = run_.inputs->recording.get();
  if (recording == nullptr || recording->written()) return;
  if (recording->complete() || finished()) recording->write();
}

void TrainingLoop::save() {
  const std::optional<LossScaler>& scaler = run_.compute->scaler;
  state_.loss_scaler = scaler ? scaler->state() : LossScalerState{};
  run_.checkpoints->save(state_, run_.compute->engine, run_.inputs->bad_samples.get(), run_.logs);
}

void TrainingLoop::stop(SaveSchedule::Wish wish) {
  run_.checkpoints->settle(run_.logs);  // what stops has saved
  stopped_ = true;
  run_.status.set_code(ExitCode::kSaved);
  const bool signalled = wish == SaveSchedule::Wish::kSaveForSignal;
  run_.logs.line(fmt::format("stopping at step {} {}; the same command continues", state_.step,
                             signalled ? "for a signal" : "for the time limit"));
}

}  // namespace facet
