// One optimizer step, on all ranks together.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "data/bad_samples.h"
#include "data/batch_source.h"
#include "job/fault_injection.h"
#include "model/vlm.h"
#include "optim/loss_scaler.h"
#include "optim/lr_schedule.h"
#include "train/step_report.h"
#include "zero/engine.h"

namespace facet {

enum class LossAverage : uint8_t {
  kGlobal,      // over all labelled tokens of the step: all ranks, all micro-batches
  kMicroBatch,  // the mean of each micro-batch, then the plain mean over micro-batches and ranks
};

// What a step works with; everything outlives it.
struct StepParts {
  VisionLanguageModel& model;
  Context context;  // its hooks are the engine
  Engine& engine;
  const LrSchedule& schedule;
  Communicator& world;
  BatchSource& source;
  BadSampleBudget* bad_samples;  // nullptr: the source has none
  int64_t num_datasets;
  LossAverage loss_average;
  const FaultInjection& faults;
  LossScaler* scaler = nullptr;  // nullptr: the loss is not scaled
};

class TrainStep {
 public:
  explicit TrainStep(const StepParts& parts);

  // Takes step `step` (from 0) of epoch `epoch` (from 0). Data that can't be used is a
  // CollectiveError before anything is computed. The report is valid until the next call.
  const StepReport& run(int64_t epoch, int64_t step);

  // Behind a step that was skipped: computes it again and looks at every number on its way. Where
  // the first one stands that is not finite, the same text on every rank.
  std::string find_non_finite();

 private:
  void inject(const char* moment) const;
  std::string bad_parameter_of_all(LossSums& sums);
  void compute(const MicroBatch& batch, double weight, UnitHooks& hooks, LossSums& sums);
  void agree_on_counts(std::span<const MicroBatch> batches, int64_t epoch);
  double loss_weight(const MicroBatch& batch) const;
  void add_loss(const MicroBatch& batch, double weight);
  void agree_on_loss();
  void follow_scale(bool good);

  StepParts parts_;
  StepReport report_;
  std::span<const MicroBatch> batches_;  // of the last step
  LossSums sums_;                        // of the micro-batch just computed
  std::vector<double> flat_;             // what the ranks sum in one exchange
  std::vector<int64_t> bad_;             // of this step on all ranks, by data set
};

}  // namespace facet
