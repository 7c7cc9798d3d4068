// Which records make up which sample, which samples are trained on, and in which order: pure
// arithmetic on counter-based streams, the same on any number of ranks.
//
//   records --group--> groups --draw--> the chosen groups --blend, one shuffle--> samples
//   samples = training split (the first int(n * ratio)) then evaluation split
//   each epoch: one permutation (or weighted draw) of the training split, cut into global batches
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "data/dataset.h"
#include "data/weighted_order.h"

namespace facet {

// The command-line options for one data set.
struct DatasetRequest {
  static constexpr int64_t kAllSamples = -1;
  int64_t samples = kAllSamples;  // --dataset_samples: groups to draw
  int64_t concatenate = 1;  // --dataset_concatenate_samples: a group has 1..concatenate records
  double weight = 0;        // --dataset_weights; 0: blended by size, as all others then
};

enum class Split : uint8_t { kTraining, kEvaluation };

// The blended, shuffled and split list of samples.
class SampleTable {
 public:
  SampleTable(const std::vector<std::unique_ptr<Dataset>>& datasets,
              const std::vector<DatasetRequest>& requests, double train_split_ratio, uint64_t seed);

  int64_t num_samples(Split split) const;
  int64_t num_datasets() const { return static_cast<int64_t>(datasets_.size()); }
  const Dataset& dataset(int64_t index) const { return *datasets_[static_cast<size_t>(index)]; }
  int32_t dataset_of(Split split, int64_t sample) const;
  std::span<const int32_t> records_of(Split split, int64_t sample) const;

  // The records of a sample, concatenated, with the system text of the first. Draws depend only on
  // (seed, epoch, sample). Throws Error(kBadData) if a record is malformed.
  RawSample read(Split split, int64_t sample, int64_t epoch) const;

  // The order of the training split in an epoch: a permutation, or a blend by weight in which
  // samples may be missing or occur again (data/weighted_order.h).
  std::vector<int64_t> epoch_order(int64_t epoch) const;

  // XXH3 over the annotation files, the grouping, the shuffle and the split: equal fingerprints
  // mean that a sample index means the same sample.
  uint64_t fingerprint() const { return fingerprint_; }
  uint64_t seed() const { return seed_; }

 private:
  void add_groups(int32_t index, const DatasetRequest& request);
  size_t group_of(Split split, int64_t sample) const;
  void sort_by_weight(const std::vector<DatasetRequest>& requests);
  uint64_t compute_fingerprint() const;

  std::vector<const Dataset*> datasets_;
  std::vector<int32_t> records_;         // record indices, group by group
  std::vector<int64_t> group_begin_{0};  // (G+1) group g owns records_[begin[g], begin[g+1])
  std::vector<int32_t> group_dataset_;   // (G)
  std::vector<int64_t> shuffled_;        // (n) group of each sample; the training split comes first
  int64_t num_training_ = 0;
  std::vector<WeightedSet> weighted_;  // empty: blended by size
  uint64_t seed_;
  uint64_t fingerprint_ = 0;
};

// The order without weights.
std::vector<int64_t> epoch_permutation(int64_t num_samples, uint64_t seed, int64_t epoch);

// How an epoch's positions are distributed over steps, micro-batches and ranks. Step s takes
// positions [s*GB, (s+1)*GB), GB = global batch; its micro-batch m on rank r begins at s*GB +
// (m*ranks + r)*per_device.
struct BatchPlan {
  int64_t num_samples = 0;
  int64_t per_device = 1;  // samples of a micro-batch
  int64_t ranks = 1;
  int64_t accumulation = 1;  // micro-batches of a step; the last step of an epoch may have fewer

  struct Positions {
    int64_t begin = 0, end = 0;
  };

  int64_t global_batch() const { return per_device * ranks * accumulation; }
  int64_t num_micro_batches() const;  // of an epoch, the same on every rank
  int64_t num_steps() const;
  int64_t micro_batches_of(int64_t step) const;
  // Empty if the samples ran out before this rank.
  Positions positions(int64_t step, int64_t micro_batch, int64_t rank) const;
};

}  // namespace facet
