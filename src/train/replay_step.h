// facet train --replay_step N: one step of a run once more, in memory, from the newest checkpoint
// before it; beside its row of the log, with its samples.
#pragma once

#include <memory>
#include <optional>

#include "checkpoint/checkpoint.h"
#include "checkpoint/run_state.h"
#include "comm/mpi_session.h"
#include "job/fault_injection.h"
#include "job/run_lock.h"
#include "job/run_status.h"
#include "train/log_table.h"
#include "train/run_inputs.h"
#include "train/step_comparison.h"
#include "train/step_engine.h"

namespace facet {

// A run whose output directory is only read. Members are constructed in this order.
class ReplayStep {
 public:
  // Collective, as is run(). Restores the state before the step; the directory's lock is held
  // meanwhile, as by a dry run. An error that all ranks know of is a CollectiveError on all.
  ReplayStep(MpiSession& session, const Options& options);

  // Takes the steps up to N and tells of it.
  void run();

 private:
  void restore();
  RunState stored_run(const RunState& now);
  StepReport take_step();
  std::vector<ComparedValue> compared(const StepReport& report) const;
  void tell(const StepReport& report);
  void tell_samples();
  std::string batches_path() const;
  std::vector<std::string> groups() const;

  Communicator& world_;
  const Options given_;    // what the command line says
  const Options options_;  // the same, without what writes files
  const int64_t wanted_;   // the step, from 1
  const FaultInjection faults_;
  std::unique_ptr<RunLock> lock_;        // on rank 0
  std::unique_ptr<const LogTable> log_;  // on rank 0
  CheckpointStore store_;
  const std::optional<FoundCheckpoint> found_;
  ComputeDevice device_;
  const std::unique_ptr<RunInputs> inputs_;
  const RunCosts costs_;
  const std::unique_ptr<StepEngine> compute_;
  RunState state_;
};

}  // namespace facet
