#include "train/training_loop.h"

#include <cmath>

#include "base/log.h"
#include "base/progress.h"
#include "train/outcome.h"
#include "train/product_choices.h"
#include "train/run_report.h"
#include "train/run_results.h"
#include "train/run_samples.h"
#include "train/skipped_steps.h"
#include "train/stop_request.h"

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
  try {
    go_on();
  } catch (const StopRequested& request) {
    stop(request.wish());
  }
}

void TrainingLoop::go_on() {
  settle_products(run_.options, run_.world, run_.device, state_, run_.compute->step);
  if (!work_left()) log("all {} steps are done; nothing to do", state_.step);
  if (evaluation_due()) evaluate_now(run_);
  if (work_left() && sampling_due()) sample_now(run_);
  while (work_left()) {
    train_epoch();
    close_epoch();
  }
  run_.checkpoints->settle(run_.logs);  // the last one
  report_memory(run_);
  report_left_out(run_);
  check_outcome(run_);
}

// Before the first step, and after every --eval_interval of them; a run that was stopped within
// such an evaluation continues with it.
bool TrainingLoop::evaluation_due() const {
  const int64_t interval = run_.options.eval_interval;
  return state_.step == 0 || (interval > 0 && state_.step % interval == 0);
}

// After every --sample_interval steps, or each epoch, and at the run's end. A run that was stopped
// meanwhile begins again with it.
bool TrainingLoop::sampling_due() const {
  if (run_.questions == nullptr || state_.step == 0) return false;
  const int64_t interval = run_.options.sample_interval;
  const bool epoch_ended = epoch_complete() || state_.next_step == 0;
  return finished() || (interval > 0 ? state_.step % interval == 0 : epoch_ended);
}

// From where the epoch stands to its end, or to the run's.
void TrainingLoop::train_epoch() {
  using Wish = SaveSchedule::Wish;
  share_features(run_);
  while (!epoch_over()) {
    finish_step(take_step());
    const Wish wish = run_.checkpoints->after_step(state_.step, run_.met(), run_.logs);
    obey(run_, wish);
    if (wish == Wish::kSave && !epoch_over()) save();  // its end saves anyway
  }
}

StepReport TrainingLoop::take_step() {
  note_step(state_.step + 1);
  StepReport report = run_.compute->step.run(state_.epoch, state_.next_step);
  report.step = ++state_.step;
  report.epoch = state_.epoch + 1;
  ++state_.next_step;
  run_.status.set_step(report.step);
  if (report.step == 1) report_traffic(run_, report);
  count(report, state_);
  note_bad_samples();
  return report;
}

// What follows a step before anything is saved.
void TrainingLoop::finish_step(const StepReport& report) {
  run_.local_error.keep([&] {
    run_.faults.at("log", run_.world.rank(), report.step);
    run_.logs.append(report);
  });
  for (const std::string& line : run_.sections.after_step(report)) run_.logs.line(line);
  write_recording();
  if (report.skipped) explain_skipped_step(run_, report);
  if (evaluation_due()) evaluate_now(run_);
  if (sampling_due()) sample_now(run_);
  run_.faults.at("step", run_.world.rank(), report.step);
}

// Evaluation, plot and export after an epoch's last step. Any of them can fail, and take long, so
// the step is saved first; what they change in the state is saved when all are done.
void TrainingLoop::close_epoch() {
  if (!run_.checkpoints->have_step(state_)) save();
  if (state_.epoch_labelled_tokens > 0)
    run_.logs.line(
        fmt::format("epoch {}: loss={:.6g} over {} labelled tokens", state_.epoch + 1,
                    state_.epoch_loss_sum / static_cast<double>(state_.epoch_labelled_tokens),
                    state_.epoch_labelled_tokens));
  report_features(run_);
  if (run_.options.eval_interval == 0 || finished()) evaluate_now(run_);
  draw_curve();
  export_epoch(run_, finished() ? EndOfRun::kYes : EndOfRun::kNo);
  state_.closed_step = state_.step;
  if (epoch_complete()) begin_next_epoch();  // else --max_steps ended the run within it
  renew_checkpoint();
  if (work_left()) give_a_chance_to_stop(run_);
}

// A picture is no reason to end a run.
void TrainingLoop::draw_curve() {
  try {
    run_.logs.draw_curve();
  } catch (const Error& error) {
    warn("{}", error.what());
  }
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

void TrainingLoop::note_bad_samples() {
  const BadSampleBudget* const counted = run_.inputs->bad_samples.get();
  const bool as_before =
      counted == nullptr || (counted->epoch() == state_.bad_samples_epoch &&
                             counted->total_by_dataset() == state_.bad_samples_total);
  if (!as_before) run_.checkpoints->note_bad_samples(state_, counted);
}

// An output directory that somebody has removed is not made again unnoticed.
void TrainingLoop::save() {
  collectively(run_.world, [&] { run_.logs.find_files(); });
  save_anyhow();
}

void TrainingLoop::save_anyhow() {
  const std::optional<LossScaler>& scaler = run_.compute->scaler;
  state_.loss_scaler = scaler ? scaler->state() : LossScalerState{};
  run_.checkpoints->save(state_, run_.compute->engine, run_.logs);
}

// The step itself is saved already: there may be room on the disk for its checkpoint, but not for
// two of them at a time.
void TrainingLoop::renew_checkpoint() {
  try {
    save();
  } catch (const CollectiveError& error) {
    run_.checkpoints->forget_if_removed();
    if (!run_.checkpoints->have_step(state_)) throw;
    warn(
        "the checkpoint of step {} stays as it was before evaluation and export, which the same "
        "command would make again: {}",
        state_.step, error.what());
  }
}

void TrainingLoop::stop(SaveSchedule::Wish wish) {
  const bool is_begun = state_.step > 0;
  if (is_begun && !run_.checkpoints->have_all(state_)) save();
  run_.checkpoints->settle(run_.logs);  // what stops has saved
  run_.status.set_code(ExitCode::kSaved);
  const bool signalled = wish == SaveSchedule::Wish::kSaveForSignal;
  run_.logs.line(fmt::format("stopping at step {} {}; the same command {}", state_.step,
                             signalled ? "for a signal" : "for the time limit",
                             is_begun ? "continues" : "begins again"));
}

void TrainingLoop::keep_what_is_done(const CollectiveError& error) {
  RunCheckpoints& checkpoints = *run_.checkpoints;
  checkpoints.settle_after_error(run_.logs);
  checkpoints.forget_if_removed();
  const bool lacked_thread = error.code() == ExitCode::kSystem;  // as a plain save needs none
  if (checkpoints.have_step(state_)) return;
  if (checkpoints.failed_to_save(state_) && !lacked_thread) return;
  run_.logs.line(fmt::format("step {} is saved, because an error ends the run", state_.step));
  checkpoints.keep_older_ones();  // this state may be what is wrong
  checkpoints.save_plainly();
  try {
    save_anyhow();
    checkpoints.settle(run_.logs);
  } catch (const CollectiveError& failed) {
    warn("step {} could not be saved: {}", state_.step, failed.what());
  } catch (const std::exception& failed) {  // of this rank alone, and ends the job
    fail(error.code(), "{}; nor could step {} be saved: {}", error.what(), state_.step,
         failed.what());
  }
}

}  // namespace facet
