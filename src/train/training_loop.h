// The loop over epochs and steps of an open run.
#pragma once

#include "train/run.h"

namespace facet {

class TrainingLoop {
 public:
  explicit TrainingLoop(Run& run) : run_(run), state_(run.state) {}

  // From where the run stands to its end, or until it is asked to stop. Collective.
  void run();

 private:
  void train_epoch();
  StepReport take_step();
  void finish_step(const StepReport& report);
  void close_epoch();
  void begin_next_epoch();
  void write_recording();
  void save();
  void stop(SaveSchedule::Wish wish);

  bool finished() const { return state_.step >= run_.inputs->plan.total_steps; }
  bool epoch_complete() const { return state_.next_step == run_.inputs->plan.steps_per_epoch; }
  bool epoch_over() const { return epoch_complete() || finished(); }
  // The last epoch of a run, or the one cut short by --max_steps, has to be closed too.
  bool work_left() const { return !finished() || state_.closed_step != state_.step; }

  Run& run_;
  RunState& state_;
  bool stopped_ = false;  // on request, and saved
};

}  // namespace facet
