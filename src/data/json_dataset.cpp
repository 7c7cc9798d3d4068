#include "data/json_dataset.h"

#include <xxhash.h>

#include <algorithm>
#include <filesystem>

#include "base/check.h"
#include "base/log.h"
#include "io/file.h"

namespace facet {

namespace fs = std::filesystem;

namespace {

// By its words alone.
bool leads_outside(const fs::path& path) {
  return path.is_absolute() || std::find(path.begin(), path.end(), "..") != path.end();
}

// One message for everything that is missing.
void check_layout(const std::string& name, const std::string& data_path,
                  const AnnotationLayout& layout) {
  const fs::path root(data_path);
  std::string missing, expected;
  for (const std::string& file : layout.files) {
    expected += fmt::format("\n  {}", (root / file).string());
    if (!fs::exists(root / file)) missing += fmt::format(" {}", (root / file).string());
  }
  const fs::path images = root / layout.image_directory;
  expected += fmt::format("\n  {}/ (may be empty if no record has an image)", images.string());
  if (!fs::is_directory(images)) missing += fmt::format(" {}/", images.string());
  CHECK(missing.empty(), ExitCode::kMissingInput,
        "data set {}: not found:{}\n  Its files belong here (--data_path is {}):{}", name, missing,
        data_path, expected);
}

}  // namespace

JsonDataset::JsonDataset(std::string name, const DatasetSources& sources,
                         const AnnotationLayout& layout)
    : Dataset(std::move(name)),
      image_directory_((fs::path(sources.data_path) / layout.image_directory).string()),
      outside_images_(sources.outside_images) {
  check_layout(this->name(), sources.data_path, layout);
  for (const std::string& file : layout.files)
    add_file((fs::path(sources.data_path) / file).string(), layout.array_key);
  CHECK(num_records() > 0, ExitCode::kBadData, "data set {}: its annotation files hold no records",
        this->name());
  CHECK(num_records() <= INT32_MAX, ExitCode::kBadData, "data set {}: more than 2^31 records",
        this->name());
}

void JsonDataset::add_file(const std::string& path, const std::string& array_key) {
  const std::string text = read_file(path, JsonDocument::kMaxDataBytes);
  files_.push_back(path);
  fingerprint_ = XXH3_64bits_withSeed(text.data(), text.size(), fingerprint_);
  documents_.push_back(JsonDocument::parse_any_bytes(text, path));
  // A record whose duplicate key is used is bad; of the others nobody would hear.
  if (const std::string twice = documents_.back().first_duplicate(); !twice.empty())
    warn("{}; in a key that is used this makes the sample bad", twice);
  const JsonValue root = documents_.back().root();
  const JsonValue records = array_key.empty() ? root : root.at(array_key);
  if (!records.is_array()) records.reject("expected an array of records");
  arrays_.push_back(records);
  first_record_.push_back(first_record_.back() + records.size());
}

size_t JsonDataset::number_of_file(int64_t record) const {
  ASSERT(record >= 0 && record < num_records(), "record {} of {}", record, num_records());
  const auto after = std::upper_bound(first_record_.begin(), first_record_.end(), record);
  return static_cast<size_t>(after - first_record_.begin()) - 1;
}

RawSample JsonDataset::read(int64_t record, RandomStream& draws) const {
  const size_t file = number_of_file(record);
  return parse(arrays_[file].at(record - first_record_[file]), draws);
}

std::string JsonDataset::image_path(std::string_view file) const {
  const size_t end = file.find('\0');
  CHECK(end == file.npos, ExitCode::kBadData, "the image path {} goes on after a NUL byte",
        file.substr(0, end));
  const fs::path path(file);
  CHECK(outside_images_ == OutsideImages::kAllowed || !leads_outside(path), ExitCode::kBadData,
        "the image path {} leads out of {}; if that is meant, give --allow_outside_images", file,
        image_directory_);
  return path.is_absolute() ? path.string() : image_directory_ + "/" + path.string();
}

}  // namespace facet
