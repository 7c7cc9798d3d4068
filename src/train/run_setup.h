// Set-up that train, --dry_run and evaluate share, and what they print about it.
#pragma once

#include <string>
#include <vector>

#include "comm/hang_verdict.h"
#include "optim/loss_scaler.h"
#include "optim/lr_schedule.h"
#include "optim/param_groups.h"
#include "train/data_setup.h"
#include "train/model_setup.h"
#include "train/step_report.h"
#include "zero/engine.h"

namespace facet {

// "a step has 16 samples (2 a micro-batch x 2 ranks x 4 micro-batches)"
std::string samples_of_step_text(const Options& options, int64_t ranks);

// How many steps a run has.
struct StepPlan {
  int64_t steps_per_epoch = 0;
  int64_t total_steps = 0;
  int64_t warmup_steps = 0;

  std::string text(const Options& options, int ranks) const;
};
StepPlan plan_steps(const Options& options, const BatchSource& source);

LrSchedule make_schedule(const Options& options, const StepPlan& plan);
LossScalerOptions scaler_options(const Options& options);
EngineOptions engine_options(const Options& options);
HangLimits hang_limits(const Options& options);

// Removes what a killed run has left half-written in its output directory: exports and files, of
// the names that a run gives them. (Checkpoints tidy their own directory.)
void tidy_output_directory(const std::string& output_dir);
std::vector<ParamGroup> make_groups(const Options& options, ParamTable& table);

// Reads a few records of each data set, so that one with nothing to learn from is an error at the
// start and not after the first evaluation.
void check_data_sets(const Options& options, const DataSetup& data);

// With --data_debug_path: see data_debug.h.
void write_debug_samples(const Options& options, const ModelSetup& model, const DataSetup& data);

// "llava 3, coco_caption 1": the data sets with bad samples.
std::string bad_samples_text(const std::vector<std::string>& names,
                             const std::vector<int64_t>& counts);
// Compares what an evaluation left out with --max_bad_fraction.
void check_bad_fraction(const Options& options, const DataSetup& data, const EvalReport& report);

// The groups as a table: parameters, elements, decay, rate.
std::string groups_text(const std::vector<ParamGroup>& groups, const ParamTable& table);

}  // namespace facet
