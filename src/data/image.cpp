#include "data/image.h"

#include "base/check.h"
#include "data/image_codecs.h"
#include "io/file.h"

namespace facet {
namespace {

// A bound for what is read into memory; no sensible image file is larger.
constexpr int64_t kMaxImageFileBytes = int64_t{1} << 30;

}  // namespace

void check_pixel_limit(int64_t width, int64_t height, int64_t max_pixels, const std::string& name) {
  CHECK(width > 0 && height > 0, ExitCode::kBadData, "{}: the image is empty", name);
  CHECK(width <= max_pixels / height, ExitCode::kBadData,
        "{}: {} x {} pixels are more than --max_image_pixels {}", name, width, height, max_pixels);
}

RgbImage decode_image(std::string_view bytes, const std::string& name, int64_t max_pixels) {
  using namespace std::string_view_literals;
  if (bytes.starts_with("\xFF\xD8\xFF"sv)) return decode_jpeg(bytes, name, max_pixels);
  if (bytes.starts_with("\x89PNG\r\n\x1A\n"sv)) return decode_png(bytes, name, max_pixels);
  CHECK(!bytes.empty(), ExitCode::kBadData, "{}: the file is empty", name);
  fail(ExitCode::kBadData, "{}: neither a JPEG nor a PNG file; convert it to one of them", name);
}

RgbImage load_image(const std::string& path, int64_t max_pixels) {
  return decode_image(read_file(path, kMaxImageFileBytes), path, max_pixels);
}

}  // namespace facet
