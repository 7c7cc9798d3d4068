// The results of one training step and of one evaluation, the same on every rank but for what the
// clocks say.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/micro_batch.h"
#include "base/time_text.h"
#include "train/step_phases.h"

namespace facet {

// Of one data set: cross-entropy summed over labelled tokens, and their number.
struct LossOfDataset {
  double loss_sum = 0;
  int64_t labelled_tokens = 0;

  double mean() const {
    return labelled_tokens > 0 ? loss_sum / static_cast<double>(labelled_tokens) : 0;
  }
};

// The data set that sample `sample` is logged under. A single one takes all samples, however the
// program that recorded them numbered them (--replay).
inline size_t dataset_of(const MicroBatch& batch, size_t sample, size_t num_datasets) {
  if (num_datasets == 1) return 0;
  const auto dataset = static_cast<size_t>(batch.dataset_of_sample[sample]);
  ASSERT(dataset < num_datasets, "data set {} of {}", dataset, num_datasets);
  return dataset;
}

struct StepReport {
  int64_t step = 0;           // steps since the start of the run, this one included
  int64_t epoch = 0;          // counts from 1
  int64_t micro_batches = 0;  // of each rank
  int64_t samples = 0;
  int64_t tokens = 0;  // of the spliced sequences
  int64_t labelled_tokens = 0;
  int64_t unlabelled_micro_batches = 0;  // those that contributed nothing
  double loss = 0;
  double grad_norm = 0;
  double clip_factor = 1;
  double loss_scale = 1;  // that this step was computed with
  bool skipped = false;
  bool scale_exhausted = false;        // skipped for an overflow, and the scale can't get smaller
  std::string first_bad_parameter;     // of a skipped step
  std::vector<double> learning_rates;  // of each group, as used in this step
  double seconds = 0;
  PhaseTimes phases;         // of this rank; together they are `seconds`
  WallTime end;              // of the step
  int64_t memory_bytes = 0;  // that the arenas held at most so far, of the rank with most
  // Floating-point operations of all ranks in forward and backward: matrix products and attention,
  // those computed again too.
  int64_t model_flops = 0;
  int64_t elements_sent = 0;  // of tensors, by this rank to others
  std::vector<LossOfDataset> datasets;
};

struct EvalReport {
  int64_t step = 0;   // training steps taken before
  int64_t epoch = 0;  // epochs completed before
  int64_t samples = 0;
  int64_t labelled_tokens = 0;
  double loss = 0;  // per labelled token
  double seconds = 0;
  WallTime end;
  std::vector<LossOfDataset> datasets;
  std::vector<int64_t> bad_samples;  // left out, by data set
  std::string non_finite;            // where the first number is that is not finite; "" for none
};

}  // namespace facet
