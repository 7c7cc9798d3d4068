// The checkpoints of a training run: which one it resumes from, when it saves, and what the engine,
// the logs and the data put into one.
//
// With --async_checkpoint save() returns while the checkpoint is written; it is published after the
// first step, or batch of an evaluation, at which all ranks have written, or by settle().
#pragma once

#include <optional>
#include <string>

#include "base/timer.h"
#include "checkpoint/checkpoint.h"
#include "data/bad_samples.h"
#include "job/fault_injection.h"
#include "job/run_status.h"
#include "options/options.h"
#include "train/run_logs.h"
#include "train/save_schedule.h"
#include "zero/engine.h"

namespace facet {

class RunCheckpoints {
 public:
  // Collective, as are the other functions. Looks for the checkpoint to resume from. Keeps the
  // newest one known to `status`.
  RunCheckpoints(const Options& options, Communicator& world, const FaultInjection& injection,
                 RunStatus& status);

  // nullptr: the run is new.
  const FoundCheckpoint* found() const { return found_ ? &*found_ : nullptr; }

  // Training begins: takes the memory that saves need, and starts the clocks.
  void begin(Engine& engine);

  // Takes master weights, moments and state from the checkpoint that was found; `state` says which
  // run this is. bad_samples may be nullptr.
  void restore(RunState& state, Engine& engine, BadSampleBudget* bad_samples);

  // Puts what is known of bad samples into the state. Call it when a step or an evaluation is
  // whole: a run that ends with an error in the next one meets that one's bad samples again.
  void note_bad_samples(RunState& state, const BadSampleBudget* bad_samples);

  void save(RunState& state, Engine& engine, RunLogs& logs);
  // Waits for the checkpoint that is being written, if there is one, and publishes it.
  void settle(RunLogs& logs);
  // The same after an error that all ranks know of; a further one here is only reported.
  void settle_after_error(RunLogs& logs);

  // Does the newest checkpoint, published or being written, have this step? And is all else that
  // happened since in it too?
  bool have_step(const RunState& state) const { return newest().step == state.step; }
  bool have_all(const RunState& state) const { return newest() == Mark(state); }
  // Was this step to be saved, and could not be?
  bool failed_to_save(const RunState& state) const {
    return tried_.step == state.step && !have_step(state);
  }
  // After an error: somebody may have removed the newest checkpoint.
  void forget_if_removed();
  // From now on saves are not made beside training: there is none any more. Not collective.
  void save_plainly() { beside_training_ = false; }
  // From now on saves remove no older checkpoint. Not collective.
  void keep_older_ones() { store_.keep_older_ones(); }

  // What to do after this step. A checkpoint that all ranks have written by then is published; a
  // save that falls due while one is being written is put off until it is done.
  SaveSchedule::Wish after_step(int64_t step, SaveSchedule::Met met, RunLogs& logs);
  // The same within what follows a step; see SaveSchedule.
  SaveSchedule::Wish between_steps(int64_t step, SaveSchedule::Met met, RunLogs& logs);

 private:
  // What tells the checkpoints of a run from each other.
  struct Mark {
    Mark() = default;
    explicit Mark(const RunState& state)
        : step(state.step),
          closed_step(state.closed_step),
          last_evaluation(state.last_evaluation) {}
    bool operator==(const Mark&) const = default;

    int64_t step = 0, closed_step = 0, last_evaluation = -1;
  };

  const Mark& newest() const { return store_.saving() ? tried_ : published_; }
  void finish(RunLogs& logs);
  void put_off(int64_t step, RunLogs& logs);
  void published(const std::string& directory, RunLogs& logs);
  void gather_list_lengths(RunState& state);
  void cut_back_bad_lists(const RunState& state) const;

  const Options& options_;
  Communicator& world_;
  RunStatus& status_;
  CheckpointStore store_;
  SaveSchedule schedule_;
  std::optional<FoundCheckpoint> found_;
  Mark tried_, published_;      // of the last save, of the newest checkpoint; step 0: none
  std::string newest_;          // the directory of the latter
  int64_t bad_list_bytes_ = 0;  // of this rank's list, as far as the state goes
  Timer since_start_;           // of the save
  double blocked_seconds_ = 0;  // for which it held up training
  bool beside_training_ = options_.async_checkpoint;
  bool put_off_ = false;  // another save, until the one in flight is over
};

}  // namespace facet
