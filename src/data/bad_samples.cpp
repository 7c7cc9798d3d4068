#include "data/bad_samples.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "base/check.h"
#include "io/file.h"
#include "io/json.h"

namespace facet {

std::string BadSampleList::path_for(const std::string& output_dir, int64_t rank) {
  return fmt::format("{}/bad_samples.rank-{}.jsonl", output_dir, rank);
}

void BadSampleList::append(const BadSample& bad) {
  if (path_.empty()) return;
  const std::string line = fmt::format(
      "{{\"split\": {}, \"epoch\": {}, \"sample\": {}, \"dataset\": {}, \"records\": [{}], "
      "\"reason\": {}}}\n",
      json_string(bad.split), bad.epoch, bad.sample, json_string(bad.dataset),
      fmt::join(bad.records, ", "), json_string(bad.reason));
  append_to_file(path_, line);
}

std::string BadRecord::json() const {
  return fmt::format("{{\"dataset\": {}, \"records\": [{}], \"file\": {}, \"reason\": {}}}",
                     json_string(dataset), fmt::join(records, ", "), json_string(file),
                     json_string(reason));
}

int64_t BadSampleList::bytes_of(const std::string& path) {
  std::error_code error;
  const uintmax_t bytes = std::filesystem::file_size(path, error);
  return error ? 0 : static_cast<int64_t>(bytes);
}

void BadSampleList::cut_back(const std::string& path, int64_t bytes) {
  if (bytes_of(path) <= bytes) return;
  std::error_code error;
  std::filesystem::resize_file(path, static_cast<uintmax_t>(bytes), error);
  CHECK(!error, ExitCode::kIo, "{}: cannot be truncated: {}", path, error.message());
}

BadSampleBudget::BadSampleBudget(std::vector<std::string> dataset_names, int64_t samples_per_epoch,
                                 double max_bad_fraction)
    : names_(std::move(dataset_names)),
      samples_per_epoch_(samples_per_epoch),
      max_bad_fraction_(max_bad_fraction),
      in_epoch_(names_.size()),
      total_(names_.size()) {}

void BadSampleBudget::charge(int64_t epoch, std::span<const int64_t> bad_by_dataset) {
  ASSERT(bad_by_dataset.size() == names_.size(), "{} counts for {} data sets",
         bad_by_dataset.size(), names_.size());
  if (epoch != epoch_) std::fill(in_epoch_.begin(), in_epoch_.end(), 0);
  epoch_ = epoch;
  std::string counts;
  for (size_t d = 0; d < names_.size(); ++d) {
    in_epoch_[d] += bad_by_dataset[d];
    total_[d] += bad_by_dataset[d];
    counts += fmt::format(" {} {}", names_[d], in_epoch_[d]);
  }
  CHECK(static_cast<double>(bad_in_epoch()) <=
            max_bad_fraction_ * static_cast<double>(samples_per_epoch_),
        ExitCode::kBadData,
        "{} bad samples in one epoch exceed --max_bad_fraction {} of its {} samples (by data "
        "set:{}); bad_samples.rank-*.jsonl in the output directory of a training run lists them",
        bad_in_epoch(), max_bad_fraction_, samples_per_epoch_, counts);
}

void BadSampleBudget::restore(int64_t epoch, std::vector<int64_t> in_epoch,
                              std::vector<int64_t> total) {
  CHECK(in_epoch.size() == names_.size() && total.size() == names_.size(), ExitCode::kBadData,
        "{} and {} counts of bad samples for {} data sets", in_epoch.size(), total.size(),
        names_.size());
  epoch_ = epoch;
  in_epoch_ = std::move(in_epoch);
  total_ = std::move(total);
}

int64_t BadSampleBudget::bad_in_epoch() const {
  return std::accumulate(in_epoch_.begin(), in_epoch_.end(), int64_t{0});
}

}  // namespace facet
