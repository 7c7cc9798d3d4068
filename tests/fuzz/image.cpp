// A picture of any format, decoded, resized and cropped.
#include "data/image.h"
#include "common/target.h"
#include "data/clip_preprocess.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  constexpr int64_t kMaxPixels = int64_t{1} << 20;
  static const ClipPreprocessor preprocessor(ClipPreprocessConfig{}, 16);
  return fuzz::may_refuse([&] {
    const RgbImage image = decode_image(fuzz::text_of(data, size), "input", kMaxPixels);
    fuzz::require(image.width > 0 && image.height > 0 && image.width * image.height <= kMaxPixels,
                  "a picture above the limit");
    fuzz::require(static_cast<int64_t>(image.pixels.size()) == 3 * image.width * image.height,
                  "pixels are missing");
    fuzz::require(preprocessor.resize_and_crop(image).pixels.size() == 3 * 16 * 16, "wrong size");
  });
}
