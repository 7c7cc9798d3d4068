// One optimizer step, on all ranks together.
#pragma once

#include <cstdint>
#include <functional>
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
#include "train/phase_hooks.h"
#include "train/step_report.h"
#include "zero/engine.h"

namespace facet {

enum class LossAverage : uint8_t {
  kGlobal,      // over all labelled tokens of the step: all ranks, all micro-batches
  kMicroBatch,  // the mean of each micro-batch, then the mean of these over micro-batches and ranks
};

// What a step works with; all of it outlives the step. Filled by name.
struct StepParts {
  Communicator& world;

  // Where its micro-batches come from.
  BatchSource& source;
  int64_t num_datasets = 1;                // that losses are reported for
  BadSampleBudget* bad_samples = nullptr;  // nullptr: none are left out

  // What computes the gradient.
  VisionLanguageModel& model;
  Context context;  // its hooks lead to the engine, perhaps through others
  LossAverage loss_average = LossAverage::kGlobal;
  LossScaler* scaler = nullptr;  // nullptr: the loss is not scaled

  // What applies it.
  Engine& engine;
  const LrSchedule& schedule;

  const FaultInjection& faults;  // at the moments "data" and "compute"

  std::function<void()> wait_for_device = {};  // at the end of each phase, see PhaseClock
};

class TrainStep {
 public:
  explicit TrainStep(const StepParts& parts);
  ~TrainStep();
  TrainStep(const TrainStep&) = delete;
  TrainStep& operator=(const TrainStep&) = delete;

  // Takes step `step` (from 0) of epoch `epoch` (from 0). Data that can't be used is a
  // CollectiveError before anything is computed. The report is valid until the next call.
  const StepReport& run(int64_t epoch, int64_t step);

  // Something is to be found out while a step is computed: the next one is computed once before it
  // is taken, between these two calls, and nothing of that remains.
  struct Rehearsal {
    std::function<void()> begin, end;
  };
  void rehearse_next(Rehearsal rehearsal) { rehearsal_ = std::move(rehearsal); }

  // After a step that was skipped: computes it again and looks at every number on the way. Returns
  // where the first one is that is not finite, the same text on every rank.
  std::string find_non_finite();

 private:
  void inject(const char* moment) const;
  void fetch(int64_t epoch, int64_t step);
  void rehearse();
  void compute_all();
  bool apply(const GradientVerdict& verdict);
  GradientVerdict compute_gradients_again();
  std::string bad_parameter_of_all();
  void begin_passes();
  void compute(size_t k, UnitHooks& hooks);
  void agree_on_counts(std::span<const MicroBatch> batches, int64_t epoch);
  double loss_weight(const MicroBatch& batch) const;
  void add_losses();
  void add_loss(const MicroBatch& batch);
  void agree_on_results();
  void follow_scale(bool good);

  StepParts parts_;
  PhaseClock clock_;
  std::optional<Rehearsal> rehearsal_;  // of the next step
  PhaseHooks phase_hooks_;
  StepReport report_;
  std::span<const MicroBatch> batches_;      // of the last step
  std::vector<RowLosses> losses_;            // of its micro-batches
  LossSums sums_;                            // of the one that is being added
  std::vector<double> flat_;                 // what the ranks sum in one exchange
  VisionWork vision_ = VisionWork::kCalled;  // in this step, on all ranks
  std::vector<int64_t> bad_;                 // of this step on all ranks, by data set
};

}  // namespace facet
