#include "data/annotation_files.h"

#include <xxhash.h>

#include <filesystem>

#include "base/check.h"
#include "base/log.h"
#include "io/file.h"
#include "io/input_file.h"

namespace facet {

namespace fs = std::filesystem;

namespace {

// One message for everything that is missing.
void check_layout(const std::string& name, const std::string& data_path,
                  const AnnotationLayout& layout) {
  const fs::path root(data_path);
  std::string missing, expected;
  const auto look_at = [&](const std::string& file, bool is_there, const char* note) {
    expected += fmt::format("\n  {}{}", (root / file).string(), note);
    if (!is_there) missing += " " + (root / file).string();
  };
  for (const std::string& file : layout.files) look_at(file, fs::exists(root / file), "");
  for (const std::string& file : layout.image_files)
    look_at(file, fs::exists(root / file), " (the images)");
  for (const std::string& directory : layout.image_directories)
    look_at(directory + "/", fs::is_directory(root / directory),
            " (may be empty if no record has an image)");
  CHECK(missing.empty(), ExitCode::kMissingInput,
        "data set {}: not found:{}\n  Its files belong here (--data_path is {}):{}", name, missing,
        data_path, expected);
}

}  // namespace

AnnotationFiles::AnnotationFiles(const std::string& dataset, const DatasetSources& sources,
                                 const AnnotationLayout& layout) {
  check_layout(dataset, sources.data_path, layout);
  for (const std::string& file : layout.files) add(data_file(sources, file));
}

void AnnotationFiles::add(const std::string& path) {
  const InputFile file(path);
  const std::string text = read_file(path, JsonDocument::kMaxDataBytes);
  files_.push_back({path, file.bytes(), file.modified(), XXH3_64bits(text.data(), text.size())});
  fingerprint_ = XXH3_64bits_withSeed(text.data(), text.size(), fingerprint_);
  documents_.push_back(JsonDocument::parse_any_bytes(text, path));
  // A record whose duplicate key is used is bad; of the others nobody would hear.
  if (const std::string twice = documents_.back().first_duplicate(); !twice.empty())
    warn("{}; in a key that is used this makes the sample bad", twice);
}

std::string data_file(const DatasetSources& sources, const std::string& file) {
  return (fs::path(sources.data_path) / file).string();
}

void check_record_count(const std::string& dataset, int64_t records) {
  CHECK(records > 0, ExitCode::kBadData, "data set {}: its annotation files hold no records",
        dataset);
  CHECK(records <= INT32_MAX, ExitCode::kBadData, "data set {}: more than 2^31 records", dataset);
}

}  // namespace facet
