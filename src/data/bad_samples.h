// What happens to samples that cannot be used.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"

namespace facet {

// Whether an error that came up while a sample was read and prepared is the sample's own fault.
inline bool means_bad_sample(const Error& error) {
  return error.code() == ExitCode::kBadData || error.code() == ExitCode::kMissingInput;
}

// --bad_samples: stop at the first one, or leave it out of its micro-batch and go on.
enum class BadSamplePolicy : uint8_t { kError, kSkip };

// One bad sample as it stands in the list.
struct BadSample {
  std::string split;
  int64_t epoch = 0;
  int64_t sample = 0;  // index in the split
  std::string dataset;
  std::vector<int32_t> records;
  std::string reason;
};

// Appends bad samples to a file of one JSON object a line. Each rank has its own file, because
// appends of several hosts to one file are not atomic on network file systems; a rank's file exists
// once it has met a bad sample. An empty path writes nothing.
class BadSampleList {
 public:
  explicit BadSampleList(std::string path) : path_(std::move(path)) {}
  // OUT/bad_samples.rank-R.jsonl
  static std::string path_for(const std::string& output_dir, int64_t rank);
  void append(const BadSample& bad);
  // For a checkpoint: the file's length, 0 when there is none; and the file as it was then.
  static int64_t bytes_of(const std::string& path);
  static void cut_back(const std::string& path, int64_t bytes);

 private:
  std::string path_;
};

// --max_bad_fraction: of an epoch's training samples at most this part may be bad. Charged with
// sums over all ranks, so that the verdict falls at the same step on every rank and whatever their
// number.
class BadSampleBudget {
 public:
  BadSampleBudget(std::vector<std::string> dataset_names, int64_t samples_per_epoch,
                  double max_bad_fraction);

  // Throws Error(kBadData) with the counts by data set once the epoch's bad samples exceed the
  // part.
  void charge(int64_t epoch, std::span<const int64_t> bad_by_dataset);
  int64_t bad_in_epoch() const;
  const std::vector<int64_t>& total_by_dataset() const { return total_; }

  // For a checkpoint: the running epoch, and its counts by data set.
  int64_t epoch() const { return epoch_; }
  const std::vector<int64_t>& in_epoch_by_dataset() const { return in_epoch_; }
  void restore(int64_t epoch, std::vector<int64_t> in_epoch, std::vector<int64_t> total);

 private:
  std::vector<std::string> names_;
  int64_t samples_per_epoch_;
  double max_bad_fraction_;
  int64_t epoch_ = -1;
  std::vector<int64_t> in_epoch_, total_;
};

}  // namespace facet
