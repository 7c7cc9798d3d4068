#include "data/image.h"

#include "base/check.h"
#include "data/image_codecs.h"
#include "io/content_kind.h"
#include "io/file.h"

namespace facet {
namespace {

bool is_picture(ContentKind kind) {
  switch (kind) {
    case ContentKind::kGif:
    case ContentKind::kBmp:
    case ContentKind::kTiff:
    case ContentKind::kHeif:
    case ContentKind::kAvif:
    case ContentKind::kJpeg2000:
    case ContentKind::kJpegXl:
    case ContentKind::kIcon:
    case ContentKind::kPsd:
    case ContentKind::kSvg: return true;
    default: return false;
  }
}

[[noreturn]] void refuse(std::string_view bytes, ContentKind kind, const std::string& name) {
  CHECK(!is_picture(kind), ExitCode::kBadData,
        "{}: {}; only JPEG, PNG and WebP are read: convert it", name, name_of(kind));
  const std::string reason = not_what_was_expected(bytes, "a JPEG, PNG or WebP image");
  fail(ExitCode::kBadData, "{}: {}", name,
       reason.empty() ? "neither a JPEG, PNG nor WebP image" : reason);
}

}  // namespace

void check_pixel_limit(int64_t width, int64_t height, int64_t max_pixels, const std::string& name) {
  CHECK(width > 0 && height > 0, ExitCode::kBadData, "{}: the image is empty", name);
  CHECK(width <= max_pixels / height, ExitCode::kBadData,
        "{}: {} x {} pixels are more than --max_image_pixels {}", name, width, height, max_pixels);
}

RgbImage decode_image(std::string_view bytes, const std::string& name, int64_t max_pixels) {
  const ContentKind kind = content_kind(bytes.substr(0, kContentKindBytes));
  switch (kind) {
    case ContentKind::kJpeg: return decode_jpeg(bytes, name, max_pixels);
    case ContentKind::kPng: return decode_png(bytes, name, max_pixels);
    case ContentKind::kWebp: return decode_webp(bytes, name, max_pixels);
    default: refuse(bytes, kind, name);
  }
}

std::string read_image_file(const std::string& path) { return read_file(path, kMaxImageFileBytes); }

RgbImage load_image(const std::string& path, int64_t max_pixels) {
  return decode_image(read_image_file(path), path, max_pixels);
}

}  // namespace facet
