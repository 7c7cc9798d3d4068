// Handling of samples that cannot be used.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"

namespace facet {

// Whether an error raised while a sample was read and prepared is the sample's own fault.
inline bool means_bad_sample(const Error& error) {
  return error.code() == ExitCode::kBadData || error.code() == ExitCode::kMissingInput;
}

// --bad_samples: stop at the first one, or leave it out of its micro-batch and continue.
enum class BadSamplePolicy : uint8_t { kError, kSkip };

// An entry of the list of bad samples.
struct BadSample {
  std::string split;
  int64_t epoch = 0;
  int64_t sample = 0;  // index in the split
  std::string dataset;
  std::vector<int32_t> records;
  std::string reason;
};

// Appends bad samples to a file of one JSON object a line. Each rank has its own file, because
// appends of several hosts to one file are not atomic on network file systems; a rank's file is
// created at its first bad sample. An empty path writes nothing.
class BadSampleList {
 public:
  explicit BadSampleList(std::string path) : path_(std::move(path)) {}
  // OUT/bad_samples.rank-R.jsonl
  static std::string path_for(const std::string& output_dir, int64_t rank);
  void append(const BadSample& bad);
  // For checkpoints: the file's length (0 if there is none), and truncating it back to that length.
  static int64_t bytes_of(const std::string& path);
  static void cut_back(const std::string& path, int64_t bytes);

 private:
  std::string path_;
};

// A record that cannot be used, or records that cannot be joined to a sample.
struct BadRecord {
  std::string dataset;
  std::vector<int64_t> records;
  std::string file;  // the image, or the annotation file that holds the record
  std::string reason;

  std::string json() const;  // one line, without its end
};

// One of many records or samples that are looked at.
struct BadItem {
  int64_t item = 0;  // its number, the same on any number of ranks
  BadRecord record;
};

// --max_bad_fraction: the largest allowed fraction of bad samples in an epoch's training samples.
// Charged with sums over all ranks, so that every rank fails at the same step, which does not
// depend on the number of ranks.
class BadSampleBudget {
 public:
  BadSampleBudget(std::vector<std::string> dataset_names, int64_t samples_per_epoch,
                  double max_bad_fraction);

  // Throws Error(kBadData) with the counts by data set once the epoch's bad samples exceed the
  // fraction.
  void charge(int64_t epoch, std::span<const int64_t> bad_by_dataset);
  int64_t bad_in_epoch() const;
  const std::vector<int64_t>& total_by_dataset() const { return total_; }

  // For checkpoints: the current epoch, and its counts by data set.
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
