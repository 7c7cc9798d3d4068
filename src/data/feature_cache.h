// Features that the frozen vision encoder has computed, kept on disk (--feature_cache), so that it
// need not see an image again. They are found by the bytes of the image's file: one that is found
// is not even decoded.
//
//   DIR/HASH/identity.txt   what the features depend on besides the image; HASH is its hash
//   DIR/HASH/records-*      the features (io/record_store.h)
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/image_features.h"
#include "data/image_source.h"
#include "io/record_store.h"

namespace facet {

// What was done with the images of micro-batches.
struct FeatureCounts {
  int64_t given = 0;     // features taken from the cache
  int64_t computed = 0;  // features computed
  int64_t stored = 0;    // bytes added to the cache
  int64_t damaged = 0;   // records that were there and could not be used
};

class FeatureCache : public FeatureSink {
 public:
  // Whether look_up() reads what it finds, or only says that it is there.
  enum class Gives : uint8_t { kFeatures, kPresence };

  // Features of image_bytes each. Finds nothing and keeps nothing before open().
  FeatureCache(int64_t image_bytes, int64_t max_image_pixels)
      : image_bytes_(image_bytes), max_image_pixels_(max_image_pixels) {}
  void give_only(Gives gives) { gives_ = gives; }

  // Where features made in the same way lie. `identity` names all that they depend on besides the
  // image. Makes the directory and writes identity.txt: kIo.
  static std::string make_directory(const std::string& directory, const std::string& identity);
  void open(std::unique_ptr<RecordStore> store) { store_ = std::move(store); }
  RecordStore* store() { return store_.get(); }  // nullptr before open()

  int64_t image_bytes() const { return image_bytes_; }

  // Appends the image to `features`: given if it is found. `file` holds the bytes of its file.
  // Whether it was found. Thread-safe.
  bool look_up(const ImageRef& image, std::string_view file, ImageFeatures& features) const;

  void given(int64_t images) override { counts_.given += images; }
  void computed(const ImageKey& key, std::span<const std::byte> features) override;

  FeatureCounts counts() const;  // since the beginning

 private:
  ImageKey key_of(const ImageRef& image, std::string_view file) const;

  const int64_t image_bytes_, max_image_pixels_;
  Gives gives_ = Gives::kFeatures;
  std::unique_ptr<RecordStore> store_;
  FeatureCounts counts_;
};

}  // namespace facet
