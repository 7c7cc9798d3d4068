#include "data/feature_cache.h"

#include <gtest/gtest.h>

#include "io/file.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBytes = 6;  // of an image's features in these tests

std::vector<std::byte> features(int number) {
  return std::vector<std::byte>(kBytes, static_cast<std::byte>(number));
}

class FeatureCacheTest : public testing::Test {
 protected:
  std::unique_ptr<FeatureCache> open(const std::string& identity, int64_t max_pixels = 100) const {
    auto cache = std::make_unique<FeatureCache>(kBytes, max_pixels);
    cache->open(std::make_unique<RecordStore>(
        FeatureCache::make_directory(directory_ / "cache", identity), "here"));
    return cache;
  }
  static ImageKey key_of(const FeatureCache& cache, const ImageRef& image, std::string_view file) {
    ImageFeatures looked_up;
    cache.look_up(image, file, looked_up);
    return looked_up.keys[0];
  }
  static bool finds(const FeatureCache& cache, const ImageRef& image, std::string_view file) {
    ImageFeatures looked_up;
    return cache.look_up(image, file, looked_up);
  }

  TemporaryDirectory directory_;
  ImageFiles images_{"somewhere", OutsideImages::kRefused};
};

TEST_F(FeatureCacheTest, AnImageIsFoundByItsBytesWhereverItsFileLies) {
  const ImageRef image = images_.at("a.jpg"), other = images_.at("b/c.png");
  {
    const auto cache = open("weights 1");
    cache->computed(key_of(*cache, image, "bytes"), features(7));
    cache->computed(key_of(*cache, image, "others"), features(8));
  }
  const auto cache = open("weights 1");
  ImageFeatures found;
  EXPECT_TRUE(cache->look_up(other, "bytes", found));
  EXPECT_FALSE(cache->look_up(image, "byteS", found));
  EXPECT_TRUE(cache->look_up(image, "others", found));
  EXPECT_EQ(found.is_given, (std::vector<uint8_t>{1, 0, 1}));
  EXPECT_EQ(found.num_given(), 2);
  std::vector<std::byte> expected = features(7);
  for (const std::byte b : features(8)) expected.push_back(b);
  EXPECT_EQ(found.values, expected);
}

TEST_F(FeatureCacheTest, OtherWeightsAndOtherBoundsFindNothing) {
  const ImageRef image = images_.at("a.jpg");
  const ImageFiles large_only("somewhere", OutsideImages::kRefused, 50);
  {
    const auto cache = open("weights 1");
    cache->computed(key_of(*cache, image, "bytes"), features(7));
  }
  EXPECT_TRUE(finds(*open("weights 1"), image, "bytes"));
  EXPECT_FALSE(finds(*open("weights 2"), image, "bytes"));
  // It may be a bad image there.
  EXPECT_FALSE(finds(*open("weights 1", 99), image, "bytes"));
  EXPECT_FALSE(finds(*open("weights 1"), large_only.at("a.jpg"), "bytes"));
}

TEST_F(FeatureCacheTest, BeforeItIsOpenedNothingIsFoundOrKept) {
  FeatureCache cache(kBytes, 100);
  ImageFeatures looked_up;
  EXPECT_FALSE(cache.look_up(images_.at("a.jpg"), "bytes", looked_up));
  cache.computed(looked_up.keys[0], features(1));
  EXPECT_EQ(looked_up.is_given, std::vector<uint8_t>{0});
  EXPECT_EQ(cache.counts().computed, 1);
  EXPECT_EQ(cache.counts().stored, 0);
}

TEST_F(FeatureCacheTest, TheDirectorySaysWhatItsFeaturesAreOf) {
  const std::string made = FeatureCache::make_directory(directory_ / "cache", "weights 1\n");
  EXPECT_EQ(FeatureCache::make_directory(directory_ / "cache", "weights 1\n"), made);
  EXPECT_NE(FeatureCache::make_directory(directory_ / "cache", "weights 2\n"), made);
  EXPECT_EQ(read_file(made + "/identity.txt", 100), "weights 1\n");
}

}  // namespace
}  // namespace facet
