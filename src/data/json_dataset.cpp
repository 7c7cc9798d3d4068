#include "data/json_dataset.h"

#include <algorithm>

#include "base/check.h"

namespace facet {

JsonDataset::JsonDataset(std::string name, const DatasetSources& sources,
                         const RecordArrays& layout)
    : Dataset(std::move(name)),
      files_(this->name(), sources, {layout.files, {layout.image_directory}, {}}),
      images_(data_file(sources, layout.image_directory), sources.outside_images) {
  for (int64_t file = 0; file < files_.size(); ++file) {
    const JsonValue root = files_.root(file);
    const JsonValue records = layout.array_key.empty() ? root : root.at(layout.array_key);
    if (!records.is_array()) records.reject("expected an array of records");
    arrays_.push_back(records);
    first_record_.push_back(first_record_.back() + records.size());
  }
  check_record_count(this->name(), num_records());
}

int64_t JsonDataset::number_of_file(int64_t record) const {
  ASSERT(record >= 0 && record < num_records(), "record {} of {}", record, num_records());
  const auto after = std::upper_bound(first_record_.begin(), first_record_.end(), record);
  return after - first_record_.begin() - 1;
}

RawSample JsonDataset::read(int64_t record, RandomStream& draws) const {
  const auto file = static_cast<size_t>(number_of_file(record));
  return parse(arrays_[file].at(record - first_record_[file]), draws);
}

}  // namespace facet
