// The checkpoints of a training run: what it continues from, when it saves, and what goes into a
// checkpoint from the engine, the logs and the data.
#pragma once

#include <optional>
#include <string>

#include "checkpoint/checkpoint.h"
#include "data/bad_samples.h"
#include "train/fault_injection.h"
#include "train/options.h"
#include "train/run_logs.h"
#include "train/save_schedule.h"
#include "zero/engine.h"

namespace facet {

class RunCheckpoints {
 public:
  // Collective, as are the other functions. Looks for the checkpoint to continue from.
  RunCheckpoints(const Options& options, Communicator& world, const FaultInjection& injection);

  // nullptr: the run begins.
  const FoundCheckpoint* found() const { return found_ ? &*found_ : nullptr; }

  // Takes over masters, moments and the state of the found checkpoint; `state` says which run this
  // is. bad_samples may be nullptr.
  void restore(RunState& state, Engine& engine, BadSampleBudget* bad_samples);

  // The checkpoint's directory.
  std::string save(RunState& state, Engine& engine, const BadSampleBudget* bad_samples,
                   RunLogs& logs);

  SaveSchedule::Wish after_step(int64_t step) { return schedule_.after_step(step); }

 private:
  void note_bad_samples(RunState& state, const BadSampleBudget* bad_samples) const;
  void cut_back_bad_lists(const RunState& state) const;

  const Options& options_;
  Communicator& world_;
  CheckpointStore store_;
  SaveSchedule schedule_;
  std::optional<FoundCheckpoint> found_;
};

}  // namespace facet
