// Shared by the data sets whose annotation files hold an array of records, and whose images are
// files in one directory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/annotation_files.h"
#include "data/dataset.h"
#include "io/json.h"

namespace facet {

// Paths are relative to --data_path.
struct RecordArrays {
  std::vector<std::string> files;
  std::string array_key;  // the member that holds the records; empty: the file is the array
  std::string image_directory;
};

class JsonDataset : public Dataset {
 public:
  JsonDataset(std::string name, const DatasetSources& sources, const RecordArrays& layout);

  int64_t num_records() const override { return first_record_.back(); }
  RawSample read(int64_t record, RandomStream& draws) const override;
  std::string file_of(int64_t record) const override { return files_.path(number_of_file(record)); }
  uint64_t fingerprint() const override { return files_.fingerprint(); }
  std::vector<SourceFile> files() const override { return files_.files(); }

 protected:
  virtual RawSample parse(const JsonValue& record, RandomStream& draws) const = 0;
  ImageRef image(std::string_view file) const { return images_.at(file); }

 private:
  int64_t number_of_file(int64_t record) const;

  AnnotationFiles files_;
  ImageFiles images_;
  std::vector<JsonValue> arrays_;         // the records of each file
  std::vector<int64_t> first_record_{0};  // (files + 1)
};

}  // namespace facet
