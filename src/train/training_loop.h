// The loop over epochs and steps of an open run.
#pragma once

#include "train/run.h"

namespace facet {

class TrainingLoop {
 public:
  explicit TrainingLoop(Run& run) : run_(run), state_(run.state) {}

  // From where the run stands to its end, or until it is asked to stop. Collective.
  void run();

  // Collective, after an error that all ranks threw out of run(): the state of the last whole step
  // is saved if no checkpoint has it yet. A save that fails too is only reported.
  void keep_what_is_done(const CollectiveError& error);

 private:
  void go_on();
  void train_epoch();
  StepReport take_step();
  void finish_step(const StepReport& report);
  void close_epoch();
  void draw_curve();
  void begin_next_epoch();
  void write_recording();
  void note_bad_samples();
  void save();
  void save_anyhow();
  void renew_checkpoint();
  void stop(SaveSchedule::Wish wish);

  bool finished() const { return state_.step >= run_.inputs->plan.total_steps; }
  bool epoch_complete() const { return state_.next_step == run_.inputs->plan.steps_per_epoch; }
  bool epoch_over() const { return epoch_complete() || finished(); }
  // The last epoch of a run, or the one cut short by --max_steps, has to be closed too.
  bool work_left() const { return !finished() || state_.closed_step != state_.step; }
  bool evaluation_due() const;
  bool sampling_due() const;

  Run& run_;
  RunState& state_;
};

}  // namespace facet
