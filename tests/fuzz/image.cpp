// A picture of any format, decoded, resized and cropped: as a whole, and by rows.
#include "data/image.h"

#include <optional>
#include <vector>

#include "common/target.h"
#include "data/image_preprocess.h"

namespace {

using namespace facet;

constexpr int64_t kMaxPixels = int64_t{1} << 20;

std::optional<std::vector<float>> pixels_by_rows(const ImagePreprocessor& preprocessor,
                                                 std::string_view bytes) {
  std::optional<std::vector<float>> result;
  fuzz::may_refuse([&] {
    std::vector<float> pixels(3 * 16 * 16);
    ImagePixels sink(preprocessor, pixels.data());
    decode_image(bytes, "input", kMaxPixels, sink);
    result = pixels;
  });
  return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ImagePreprocessor preprocessor(ImagePreprocessConfig{}, 16);
  const std::string_view bytes = fuzz::text_of(data, size);
  const auto by_rows = pixels_by_rows(preprocessor, bytes);
  bool is_read = false;
  const int result = fuzz::may_refuse([&] {
    const RgbImage image = decode_image(bytes, "input", kMaxPixels);
    is_read = true;
    fuzz::require(image.width > 0 && image.height > 0 && image.width * image.height <= kMaxPixels,
                  "a picture above the limit");
    fuzz::require(static_cast<int64_t>(image.pixels.size()) == 3 * image.width * image.height,
                  "pixels are missing");
    std::vector<float> whole(3 * 16 * 16);
    preprocessor(image, whole.data());
    fuzz::require(by_rows == whole, "the pixels are others when they come by rows");
  });
  fuzz::require(is_read == by_rows.has_value(), "refused, or not, when it comes by rows");
  return result;
}
