// The annotation files of a data set, parsed and kept in JsonDocument's flat form, about as large
// as their text.
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
  std::vector<std::string> image_directories;  // must be there, may be empty
  std::vector<std::string> image_files;        // files of many images
};

class AnnotationFiles {
 public:
  // A missing file or directory is an error that lists all that belong to the data set.
  AnnotationFiles(const std::string& dataset, const DatasetSources& sources,
                  const AnnotationLayout& layout);

  int64_t size() const { return static_cast<int64_t>(documents_.size()); }
  JsonValue root(int64_t file) const { return documents_[static_cast<size_t>(file)].root(); }
  const std::string& path(int64_t file) const { return files_[static_cast<size_t>(file)].path; }
  const std::vector<SourceFile>& files() const { return files_; }
  // XXH3 of the files' bytes.
  uint64_t fingerprint() const { return fingerprint_; }

 private:
  void add(const std::string& path);

  std::vector<SourceFile> files_;
  std::vector<JsonDocument> documents_;
  uint64_t fingerprint_ = 0;
};

// A path below --data_path.
std::string data_file(const DatasetSources& sources, const std::string& file);

// Error(kBadData) unless a data set has a number of records that is possible.
void check_record_count(const std::string& dataset, int64_t records);

}  // namespace facet
