#include "data/resize.h"

#include <gtest/gtest.h>

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

TEST(Resize, TheSameSizeIsACopy) {
  const RgbImage image = pattern(19, 7);
  EXPECT_EQ(resize_bicubic(image, 19, 7, {0, 0, 19, 7}).pixels, image.pixels);
}

}  // namespace
}  // namespace facet
