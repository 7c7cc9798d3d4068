// json:PATH, a user's own records in JSON lines or a JSON array (data/conversation_record.h). Only
// the index of the file is in memory (data/record_index.h).
#include <algorithm>
#include <deque>

#include "base/check.h"
#include "data/annotation_files.h"
#include "data/conversation_record.h"
#include "data/formats.h"
#include "data/record_index.h"
#include "io/file.h"

namespace facet {

namespace {

// The index of the n-th file of a data set.
std::string index_name(const std::string& dataset, size_t file) {
  return file == 0 ? dataset : fmt::format("{}_{}", dataset, file + 1);
}

class OwnJson : public Dataset {
 public:
  OwnJson(const DatasetChoice& choice, const DatasetSources& sources) : Dataset(choice.name) {
    for (size_t i = 0; i < choice.paths.size(); ++i) {
      const std::string& path = choice.paths[i];
      const std::string& root = choice.image_root.empty() ? sources.image_root : choice.image_root;
      files_.emplace_back(path, root.empty() ? directory_of(path) : root, sources,
                          index_name(name(), i));
      first_record_.push_back(num_records() + files_.back().index.size());
    }
    check_record_count(name(), num_records());
  }

  int64_t num_records() const override { return first_record_.back(); }
  std::string file_of(int64_t record) const override { return place_of(record).file.file.path(); }

  RawSample read(int64_t record, RandomStream&) const override {
    const auto& [file, index] = place_of(record);
    const JsonDocument document = file.index.read(file.file, index);
    std::vector<ImageRef> images;
    for (const std::string_view image : image_names_of(document.root()))
      images.push_back(file.images.at(image));
    return conversation_of(document.root(), images);
  }

  uint64_t fingerprint() const override {
    uint64_t hash = 0;
    for (const File& file : files_) hash = hash * 31 + file.index.hash_of_file();
    return hash;
  }
  std::vector<SourceFile> files() const override {
    std::vector<SourceFile> files;
    for (const File& file : files_)
      files.push_back(
          {file.file.path(), file.file.bytes(), file.file.modified(), file.index.hash_of_file()});
    return files;
  }

 private:
  struct File {
    File(const std::string& path, const std::string& image_root, const DatasetSources& sources,
         const std::string& index_name)
        : file(path),
          images(image_root, sources.outside_images),
          index(file, sources.index_directory, index_name) {}

    InputFile file;
    ImageFiles images;
    RecordIndex index;
  };
  struct Place {
    const File& file;
    int64_t record;
  };

  Place place_of(int64_t record) const {
    ASSERT(record >= 0 && record < num_records(), "record {} of {}", record, num_records());
    const auto after = std::upper_bound(first_record_.begin(), first_record_.end(), record);
    const auto file = static_cast<size_t>(after - first_record_.begin() - 1);
    return {files_[file], record - first_record_[file]};
  }

  std::deque<File> files_;                // not moved once a sample refers to them
  std::vector<int64_t> first_record_{0};  // (files + 1)
};

}  // namespace

std::unique_ptr<Dataset> open_own_json(const DatasetChoice& choice, const DatasetSources& sources) {
  return std::make_unique<OwnJson>(choice, sources);
}

void index_own_json(const DatasetChoice& choice, const DatasetSources& sources) {
  for (size_t i = 0; i < choice.paths.size(); ++i)
    RecordIndex::keep(InputFile(choice.paths[i]), sources.index_directory,
                      index_name(choice.name, i));
}

}  // namespace facet
