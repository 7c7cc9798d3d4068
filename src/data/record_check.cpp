#include "data/record_check.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace facet {

namespace {

// The image that the reason begins with, as the messages of the decoders do; or the other file.
std::string file_at_fault(const RawSample& sample, const std::string& reason,
                          const std::string& otherwise) {
  for (const RawRound& round : sample.rounds)
    for (const ImageRef& image : round.images)
      if (reason.starts_with(image.name())) return image.name();
  return otherwise;
}

}  // namespace

BadRecord bad_record(const Dataset& dataset, std::span<const int32_t> records,
                     const RawSample& sample, const Error& error) {
  return {dataset.name(),
          {records.begin(), records.end()},
          file_at_fault(sample, error.what(), dataset.file_of(records[0])),
          error.what()};
}

RecordCheck::RecordCheck(const SampleTable& table, const SampleBuilder& builder, int64_t max_images,
                         int64_t rank, int64_t ranks)
    : table_(table),
      builder_(builder),
      max_images_(max_images),
      first_record_(first_records(table)),
      joined_(joined_samples(table)),
      walk_(num_items(), rank, ranks) {}

std::vector<int64_t> RecordCheck::first_records(const SampleTable& table) {
  std::vector<int64_t> first = {0};
  for (int64_t d = 0; d < table.num_datasets(); ++d)
    first.push_back(first.back() + table.dataset(d).num_records());
  return first;
}

std::vector<RecordCheck::Joined> RecordCheck::joined_samples(const SampleTable& table) {
  std::vector<Joined> joined;
  for (const Split split : {Split::kTraining, Split::kEvaluation})
    for (int64_t sample = 0; sample < table.num_samples(split); ++sample)
      if (table.records_of(split, sample).size() > 1) joined.push_back({split, sample});
  return joined;
}

void RecordCheck::go_on(double seconds) {
  walk_.go_on(seconds, [this](int64_t item, PreparedSample& scratch) {
    if (item < num_records())
      check_record(item, scratch);
    else
      check_joined(item);
  });
}

void RecordCheck::check_record(int64_t item, PreparedSample& scratch) {
  const auto after = std::upper_bound(first_record_.begin(), first_record_.end(), item);
  const int64_t d = after - first_record_.begin() - 1;
  const int64_t record = item - first_record_[static_cast<size_t>(d)];
  const Dataset& dataset = table_.dataset(d);
  RandomStream draws(table_.seed(), "probe", static_cast<uint64_t>(record));
  RawSample sample;
  try {
    sample = dataset.read(record, draws);
    build_checked(builder_, sample, max_images_, scratch);
  } catch (const Error& error) {
    if (!means_bad_sample(error)) throw;
    note_bad(item, bad_record(dataset, std::array{static_cast<int32_t>(record)}, sample, error));
  }
}

// Records that cannot be read are bad by themselves, and have been reported so.
void RecordCheck::check_joined(int64_t item) {
  const auto& [split, sample] = joined_[static_cast<size_t>(item - num_records())];
  const Dataset& dataset = table_.dataset(table_.dataset_of(split, sample));
  const auto records = table_.records_of(split, sample);
  int64_t images = 0;
  try {
    images = table_.read(split, sample, 0).num_images();
  } catch (const Error& error) {
    if (!means_bad_sample(error)) throw;
  }
  if (images <= max_images_) return;
  note_bad(item, {dataset.name(),
                  {records.begin(), records.end()},
                  dataset.file_of(records[0]),
                  fmt::format("together these records show {} images, more than "
                              "--max_num_image_per_sample {}; see --dataset_concatenate_samples",
                              images, max_images_)});
}

void RecordCheck::note_bad(int64_t item, BadRecord bad) {
  const std::lock_guard lock(mutex_);
  bad_.push_back({item, std::move(bad)});
}

}  // namespace facet
