// Shared by the supported formats: annotation files that hold an array of records, and one
// directory of images. The parsed files are kept in JsonDocument's flat form, about as large as
// their text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "io/json.h"

namespace facet {

// Paths are relative to --data_path.
struct AnnotationLayout {
  std::vector<std::string> files;
  std::string array_key;  // the member that holds the records; empty: the file is the array
  std::string image_directory;
};

class JsonDataset : public Dataset {
 public:
  JsonDataset(std::string name, const DatasetSources& sources, const AnnotationLayout& layout);

  int64_t num_records() const override { return first_record_.back(); }
  RawSample read(int64_t record, RandomStream& draws) const override;
  std::string file_of(int64_t record) const override { return files_[number_of_file(record)]; }
  uint64_t fingerprint() const override { return fingerprint_; }

 protected:
  virtual RawSample parse(const JsonValue& record, RandomStream& draws) const = 0;
  // The file that a record names, below image_directory (kBadData for another, see
  // DatasetSources::outside_images).
  std::string image_path(std::string_view file) const;

 private:
  void add_file(const std::string& path, const std::string& array_key);
  size_t number_of_file(int64_t record) const;

  std::string image_directory_;
  OutsideImages outside_images_;
  std::vector<std::string> files_;
  std::vector<JsonDocument> documents_;
  std::vector<JsonValue> arrays_;         // the records of each file
  std::vector<int64_t> first_record_{0};  // (files + 1)
  uint64_t fingerprint_ = 0;
};

}  // namespace facet
