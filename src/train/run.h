// An open training run: everything it is made of.
//
// The members are constructed in this order, each from those before it, and none is filled later.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/run_state.h"
#include "comm/mpi_session.h"
#include "job/fault_injection.h"
#include "job/run_lock.h"
#include "job/run_status.h"
#include "options/options.h"
#include "train/binding.h"
#include "train/compute_device.h"
#include "train/local_error.h"
#include "train/run_checkpoints.h"
#include "train/run_inputs.h"
#include "train/run_logs.h"
#include "train/run_record.h"
#include "train/sampling_plan.h"
#include "train/section_report.h"
#include "train/step_engine.h"

namespace facet {

struct Run {
  // Collective. Starts the run, or continues it from its newest checkpoint. An error that all ranks
  // know of is thrown as the same CollectiveError on all of them; any other ends the job.
  Run(MpiSession& session, const Options& options, RunStatus& status,
      const OpenQuestions& open_questions);
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  SaveSchedule::Met met() const {
    return local_error.met() ? SaveSchedule::Met::kError : SaveSchedule::Met::kNothing;
  }

  const Options& options;
  Communicator& world;
  RunStatus& status;

  const FaultInjection faults;
  const std::string planted;  // the faults of all ranks, as they were given; "" for none
  RunLogs logs;
  SectionReport sections;
  ComputeDevice device;
  const std::vector<RankBinding> binding;  // of all ranks
  const std::unique_ptr<RunLock> lock;     // of the output directory; on rank 0 only
  std::unique_ptr<RunCheckpoints> checkpoints;
  const std::unique_ptr<RunRecord> record;  // with the number of this start
  const std::unique_ptr<RunInputs> inputs;
  const std::unique_ptr<Questions> questions;  // of --sample_prompts, if it is given
  // Of --inference_tp_size; nullptr where each rank answers by itself.
  const std::unique_ptr<Communicator> answer_group;
  const RunCosts costs;                        // of the rank that needs most
  const std::optional<SamplingPlan> sampling;  // with --sample_prompts
  const std::unique_ptr<StepEngine> compute;
  RunState state;                 // how far the run has come
  LocalError local_error;         // that this rank met since the last step
  FeatureCounts features_told{};  // as of the last report
};

}  // namespace facet
