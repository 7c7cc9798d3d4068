#include "data/image.h"

#include <algorithm>

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

class WholeImage : public RowSink {
 public:
  Region begin(int64_t width, int64_t height) override {
    image = {width, height, {}};
    image.pixels.reserve(static_cast<size_t>(3 * width * height));
    return {0, 0, width, height};
  }
  void add(const uint8_t* rows, int64_t stride, int64_t count) override {
    for (int64_t y = 0; y < count; ++y, rows += stride)
      image.pixels.insert(image.pixels.end(), rows, rows + 3 * image.width);
  }

  RgbImage image;
};

}  // namespace

void send_rows(const RgbImage& image, RowSink& sink) {
  ASSERT(image.width > 0 && image.height > 0, "empty image");
  const Region wanted = sink.begin(image.width, image.height);
  const int64_t first = image.width * wanted.y + wanted.x;
  sink.add(image.pixels.data() + 3 * first, 3 * image.width, wanted.height);
}

void RowBand::set_columns(int64_t left, int64_t right) {
  left_ = left;
  right_ = right;
}

uint8_t* RowBand::next_row() {
  if (rows_ == capacity_) flush();
  const int64_t row_bytes = 3 * (right_ - left_);
  if (band_.empty()) band_.resize(static_cast<size_t>(capacity_ * row_bytes));
  return &band_[static_cast<size_t>(row_bytes * rows_++)];
}

void RowBand::flush() {
  const int64_t begin = std::max(wanted_.y, first_);
  const int64_t end = std::min(wanted_.y + wanted_.height, first_ + rows_);
  const int64_t row_bytes = 3 * (right_ - left_);
  if (begin < end)
    sink_.add(band_.data() + row_bytes * (begin - first_) + 3 * (wanted_.x - left_), row_bytes,
              end - begin);
  first_ += rows_;
  rows_ = 0;
}

void check_pixel_limit(int64_t width, int64_t height, int64_t max_pixels, const std::string& name) {
  CHECK(width > 0 && height > 0, ExitCode::kBadData, "{}: the image is empty", name);
  CHECK(width <= max_pixels / height, ExitCode::kBadData,
        "{}: {} x {} pixels are more than --max_image_pixels {}", name, width, height, max_pixels);
}

void decode_image(std::string_view bytes, const std::string& name, int64_t max_pixels,
                  RowSink& sink) {
  const ContentKind kind = content_kind(bytes.substr(0, kContentKindBytes));
  switch (kind) {
    case ContentKind::kJpeg: return decode_jpeg(bytes, name, max_pixels, sink);
    case ContentKind::kPng: return decode_png(bytes, name, max_pixels, sink);
    case ContentKind::kWebp: return decode_webp(bytes, name, max_pixels, sink);
    default: refuse(bytes, kind, name);
  }
}

RgbImage decode_image(std::string_view bytes, const std::string& name, int64_t max_pixels) {
  WholeImage whole;
  decode_image(bytes, name, max_pixels, whole);
  return std::move(whole.image);
}

std::string read_image_file(const std::string& path) { return read_file(path, kMaxImageFileBytes); }

RgbImage load_image(const std::string& path, int64_t max_pixels) {
  return decode_image(read_image_file(path), path, max_pixels);
}

void load_image(const std::string& path, int64_t max_pixels, RowSink& sink) {
  decode_image(read_image_file(path), path, max_pixels, sink);
}

}  // namespace facet
