// A picture of any format, decoded, resized and cropped: as a whole, and by rows.
#include "data/image.h"

#include <vector>

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
    std::vector<float> whole(3 * 16 * 16), by_rows(3 * 16 * 16);
    preprocessor(image, whole.data());
    ClipPixels sink(preprocessor, by_rows.data());
    decode_image(fuzz::text_of(data, size), "input", kMaxPixels, sink);
    fuzz::require(whole == by_rows, "the pixels are others when they come by rows");
  });
}
