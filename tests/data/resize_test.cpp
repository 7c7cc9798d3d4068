#include "data/resize.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/rng.h"
#include "golden.h"
#include "io/json.h"

namespace facet {
namespace {

// The pattern of scripts/make_golden_data.py.
RgbImage pattern(int64_t width, int64_t height) {
  RgbImage image{width, height, {}};
  image.pixels.resize(static_cast<size_t>(3 * width * height));
  for (uint64_t i = 0; i < image.pixels.size(); ++i)
    image.pixels[i] = static_cast<uint8_t>(((i * i * 31 + i * 7) >> 3) % 251);
  return image;
}

TEST(Resize, BytesAreThoseOfPillow) {
  const JsonDocument golden = JsonDocument::read(kGoldenDir + "/resizes.json");
  for (const JsonValue record : golden.root().at("resizes")) {
    const auto side = [&](const char* key, int64_t i) { return record.at(key).at(i).as_int(); };
    const int64_t width = side("to", 0), height = side("to", 1);
    SCOPED_TRACE(record.where());
    const RgbImage resized = resize_bicubic(pattern(side("from", 0), side("from", 1)), width,
                                            height, {0, 0, width, height});
    EXPECT_EQ(crc_of(resized.pixels), record.at("pixels").as_int());
  }
}

TEST(Resize, ARegionIsTheSameAsACropOfTheWhole) {
  const RgbImage image = pattern(97, 61);
  for (const auto& [width, height] : {std::pair<int64_t, int64_t>{41, 257}, {97, 30}, {200, 61}}) {
    const RgbImage whole = resize_bicubic(image, width, height, {0, 0, width, height});
    const Region region{7, 11, width - 20, height - 13};
    const RgbImage part = resize_bicubic(image, width, height, region);
    ASSERT_EQ(part.width, region.width);
    ASSERT_EQ(part.height, region.height);
    for (int64_t y = 0; y < part.height; ++y)
      for (int64_t x = 0; x < 3 * part.width; ++x)
        ASSERT_EQ(part.pixels[static_cast<size_t>(3 * part.width * y + x)],
                  whole.pixels[static_cast<size_t>(3 * width * (y + region.y) + 3 * region.x + x)]);
  }
}

// Sides of a pixel, of a few, and of many beside one; noise, and edges that go beyond the range of
// a byte.
class RandomResize {
 public:
  explicit RandomResize(uint64_t seed) : draws_(seed, "resize") {
    image = {side(), side(), {}};
    const bool has_edges = draws_.below(2) == 1;
    for (int64_t i = 0; i < 3 * image.width * image.height; ++i)
      image.pixels.push_back(
          static_cast<uint8_t>(has_edges ? 255 * draws_.below(2) : draws_.below(256)));
    width = side();
    height = side();
    region.x = below(width);
    region.y = below(height);
    region.width = 1 + below(width - region.x);
    region.height = 1 + below(height - region.y);
  }
  int64_t below(int64_t bound) {
    return static_cast<int64_t>(draws_.below(static_cast<uint64_t>(bound)));
  }

  RgbImage image;
  int64_t width = 0, height = 0;
  Region region;

 private:
  int64_t side() {
    constexpr int64_t kBounds[] = {1, 2, 9, 70, 400};
    return 1 + below(kBounds[below(5)]);
  }
  RandomStream draws_;
};

TEST(Resize, VectorsGiveTheBytesOfTheScalarForm) {
  for (uint64_t seed = 0; seed < 400; ++seed) {
    const RandomResize drawn(seed);
    const auto resize = [&](ResizeCode code) {
      return resize_bicubic(drawn.image, drawn.width, drawn.height, drawn.region, code).pixels;
    };
    ASSERT_EQ(resize(ResizeCode::kFastest), resize(ResizeCode::kScalar))
        << drawn.image.width << " x " << drawn.image.height << " to " << drawn.width << " x "
        << drawn.height;
  }
}

// As decoders hand them over: a few at a time, with other columns between them.
TEST(Resize, RowsMayComeInAnyPortions) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    RandomResize drawn(seed);
    const RgbImage& image = drawn.image;
    std::vector<uint8_t> pixels;
    BicubicResizer resizer(drawn.width, drawn.height, drawn.region, [&](const uint8_t* row) {
      pixels.insert(pixels.end(), row, row + 3 * drawn.region.width);
    });
    const Region part = resizer.begin(image.width, image.height);
    for (int64_t y = 0, count; y < part.height; y += count) {
      count = std::min(1 + drawn.below(9), part.height - y);
      const int64_t first = 3 * ((part.y + y) * image.width + part.x);
      const std::vector<uint8_t> portion(
          image.pixels.begin() + first,
          image.pixels.begin() + first + 3 * ((count - 1) * image.width + part.width));
      resizer.add(portion.data(), 3 * image.width, count);
    }
    ASSERT_EQ(
        pixels,
        resize_bicubic(image, drawn.width, drawn.height, drawn.region, ResizeCode::kScalar).pixels);
  }
}

TEST(Resize, TheSameSizeIsACopy) {
  const RgbImage image = pattern(19, 7);
  EXPECT_EQ(resize_bicubic(image, 19, 7, {0, 0, 19, 7}).pixels, image.pixels);
}

}  // namespace
}  // namespace facet
