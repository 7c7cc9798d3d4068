#include "data/feature_cache.h"

#include <fmt/format.h>
#include <filesystem>

#include "base/check.h"
#include "io/file.h"

namespace facet {

std::string FeatureCache::make_directory(const std::string& directory,
                                         const std::string& identity) {
  const RecordKey hash = record_key(identity.data(), static_cast<int64_t>(identity.size()));
  const std::string of_identity = fmt::format("{}/{:016x}{:016x}", directory, hash[0], hash[1]);
  make_directories(of_identity);
  const std::string path = of_identity + "/identity.txt";
  std::error_code error;
  if (!std::filesystem::exists(path, error)) write_file(path, identity);
  return of_identity;
}

// Beside the bytes of the file, what a bad image is: one that was found good must still be.
ImageKey FeatureCache::key_of(const ImageRef& image, std::string_view file) const {
  const ImageKey bytes = record_key(file.data(), static_cast<int64_t>(file.size()));
  const std::array<uint64_t, 4> parts = {bytes[0], bytes[1],
                                         static_cast<uint64_t>(image.source->min_side()),
                                         static_cast<uint64_t>(max_image_pixels_)};
  return record_key(parts.data(), sizeof parts);
}

bool FeatureCache::look_up(const ImageRef& image, std::string_view file,
                           ImageFeatures& features) const {
  const ImageKey key = key_of(image, file);
  bool found = false;
  if (store_ && gives_ == Gives::kPresence) {
    found = store_->contains(key);
  } else if (store_) {
    const size_t before = features.values.size();
    features.values.resize(before + static_cast<size_t>(image_bytes_));
    found = store_->find(key, std::span(features.values).subspan(before));
    if (!found) features.values.resize(before);
  }
  features.keys.push_back(key);
  features.is_given.push_back(found ? 1 : 0);
  return found;
}

void FeatureCache::computed(const ImageKey& key, std::span<const std::byte> features) {
  ++counts_.computed;
  if (store_) store_->add(key, features);
}

FeatureCounts FeatureCache::counts() const {
  FeatureCounts counts = counts_;
  if (!store_) return counts;
  counts.stored = store_->bytes_added();
  counts.damaged = store_->damaged();
  return counts;
}

}  // namespace facet
