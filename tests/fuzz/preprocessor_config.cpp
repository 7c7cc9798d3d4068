// preprocessor_config.json, with which a picture is then prepared.
#include <vector>

#include "common/target.h"
#include "data/image_preprocess.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  constexpr int64_t kLargest = 512;  // to be drawn: larger ones would take memory, as asked for
  return fuzz::may_refuse([&] {
    fuzz::put("preprocessor_config.json", fuzz::text_of(data, size));
    const ImagePreprocessConfig config = read_image_preprocess_config(fuzz::scratch());
    const ImagePreprocessor preprocessor(config);
    if (config.crop_size > kLargest || config.size > kLargest) return;
    const RgbImage image{5, 3, std::vector<uint8_t>(5 * 3 * 3, 200)};
    std::vector<float> pixels(static_cast<size_t>(3 * config.crop_size * config.crop_size));
    preprocessor(image, pixels.data());
  });
}
