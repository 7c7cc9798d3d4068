// Micro-batches recorded in one HDF5 file: --dump_batches writes it, --replay trains from it
// instead of from data sets. Other programs can write such files too (with h5py, say):
//
//   version            (1) int64  1
//   ranks              (1) int64  N
//   image_token_id     (1) int64  the id that marks an image's place
//   image_size         (1) int64  R
//   step               (M) int64  the step of micro-batch m, from 0 on, increasing by 0 or 1
//   rank_0 .. rank_{N-1}, each with groups micro_batch_0 .. micro_batch_{M-1}, each with
//     token_ids          (T) int32      samples back to back, without padding
//     labels             (T) int32      the token's id if it is to be predicted, else -100
//     sample_begin       (B+1) int32    from 0 to T
//     images_per_sample  (B) int32
//     pixels             (I,3,R,R) fp32 normalised, in the order of their places; omitted if I = 0
//     sample_ids         (B) int64      index in the training split; optional
//     dataset_of_sample  (B) int32      index into --dataset_names; optional
// A micro-batch may have no samples (B = 0) and no images (I = 0).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/batch_source.h"

namespace facet {

class Hdf5File;

// Collects copies of this rank's micro-batches of the first steps until they are written.
class BatchRecorder {
 public:
  explicit BatchRecorder(int64_t max_steps) : max_steps_(max_steps) {}

  // Call with the micro-batches of every step until `full()`.
  void record(std::span<const MicroBatch> micro_batches);
  bool full() const { return num_steps_ >= max_steps_; }
  // Rank 0 creates the file, every other rank adds its group. The ranks must call in rank order,
  // one after another.
  void write(const std::string& path, int64_t rank, int64_t ranks) const;

 private:
  int64_t max_steps_;
  int64_t num_steps_ = 0;
  std::vector<MicroBatch> batches_;
  std::vector<int64_t> steps_;
};

// One rank's micro-batches of such a file, held in memory. An epoch is one pass over the file.
class Replay : public BatchSource {
 public:
  // The file must have been recorded on `ranks` ranks and contain at least one label.
  Replay(const std::string& path, int64_t rank, int64_t ranks);

  int64_t steps_per_epoch() const override { return static_cast<int64_t>(step_begin_.size()) - 1; }
  std::span<const MicroBatch> fetch_step(int64_t epoch, int64_t step) override;
  int64_t num_evaluation_micro_batches() const override { return 0; }
  const MicroBatch& fetch_evaluation(int64_t micro_batch) override;
  std::span<const int64_t> bad_samples_of_last_fetch() const override { return {}; }

  int32_t image_token_id() const { return image_token_id_; }
  int32_t image_size() const { return image_size_; }
  // One more than the largest dataset_of_sample of any rank.
  int32_t num_datasets() const { return num_datasets_; }

 private:
  void look_at_all_ranks(const Hdf5File& file, const std::string& path, int64_t ranks);

  std::vector<MicroBatch> batches_;
  std::vector<int64_t> step_begin_;  // (steps + 1) first micro-batch of every step
  int32_t image_token_id_ = -1;
  int32_t image_size_ = 0;
  int32_t num_datasets_ = 1;
};

}  // namespace facet
