// The source of a training run's micro-batches: data sets (loader.h) or a recorded file (replay.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/micro_batch.h"

namespace facet {

class BatchSource {
 public:
  virtual ~BatchSource() = default;

  virtual int64_t steps_per_epoch() const = 0;
  // Collective, before fetch_step of the same step: a source whose micro-batches depend on what
  // other ranks have read exchanges it here. Errors are thrown on all ranks.
  virtual void agree_on_step(int64_t /*epoch*/, int64_t /*step*/) {}
  // This rank's micro-batches of a step; the same number on every rank, possibly without samples.
  // The span is valid until the next fetch. Failures throw here, before any collective.
  virtual std::span<const MicroBatch> fetch_step(int64_t epoch, int64_t step) = 0;

  // The evaluation split, each sample once over all ranks; the same number of micro-batches on
  // every rank. 0 if there is nothing to evaluate.
  virtual int64_t num_evaluation_micro_batches() const = 0;
  virtual const MicroBatch& fetch_evaluation(int64_t micro_batch) = 0;

  // Bad samples that this rank left out in its last fetch, by data set. The training step sums them
  // over the ranks and charges BadSampleBudget (bad_samples.h).
  virtual std::span<const int64_t> bad_samples_of_last_fetch() const = 0;
};

}  // namespace facet
