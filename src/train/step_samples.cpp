#include "train/step_samples.h"

#include <fmt/format.h>

#include "base/printable.h"

namespace facet {

namespace {

std::string images_of(const RawSample& sample) {
  std::string images;
  for (const RawRound& round : sample.rounds)
    for (const std::string& image : round.images) images += " " + printable(image);
  return images.empty() ? "" : ", images" + images;
}

std::string origin_of(int64_t sample, const DataSetup& data, int64_t epoch) {
  const SampleTable& table = *data.table;
  const Dataset& dataset = table.dataset(table.dataset_of(Split::kTraining, sample));
  const std::span<const int32_t> records = table.records_of(Split::kTraining, sample);
  const std::string file = records.empty() ? "" : dataset.file_of(records.front());
  return fmt::format(", data set {}, record {}{}{}", dataset.name(), fmt::join(records, " "),
                     file.empty() ? "" : " of " + printable(file),
                     images_of(table.read(Split::kTraining, sample, epoch)));
}

}  // namespace

std::string samples_text(std::span<const MicroBatch> batches, const DataSetup& data, int64_t epoch,
                         int rank) {
  std::string text;
  for (size_t k = 0; k < batches.size(); ++k)
    for (const int64_t sample : batches[k].sample_ids)
      text +=
          fmt::format("{}  rank {}, micro-batch {}: sample {}{}", text.empty() ? "" : "\n", rank,
                      k + 1, sample, data.table == nullptr ? "" : origin_of(sample, data, epoch));
  return text;
}

}  // namespace facet
