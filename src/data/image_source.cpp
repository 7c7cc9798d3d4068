#include "data/image_source.h"

#include <algorithm>
#include <filesystem>

#include "base/check.h"

namespace facet {

namespace fs = std::filesystem;

namespace {

// By its words alone.
bool leads_outside(const fs::path& path) {
  return path.is_absolute() || std::find(path.begin(), path.end(), "..") != path.end();
}

void check_sides(const ImageRef& image, const std::string& name, int64_t width, int64_t height) {
  const int64_t smallest = image.source->min_side();
  CHECK(std::min(width, height) >= smallest, ExitCode::kBadData,
        "{}: {} x {} pixels; this data set has such images where the true one is lost, and none "
        "below {} pixels a side is used",
        name, width, height, smallest);
}

// Hands on the rows of an image that its source allows.
class LargeEnough : public RowSink {
 public:
  LargeEnough(const ImageRef& image, const std::string& name, RowSink& sink)
      : image_(image), name_(name), sink_(sink) {}

  Region begin(int64_t width, int64_t height) override {
    check_sides(image_, name_, width, height);
    return sink_.begin(width, height);
  }
  void add(const uint8_t* rows, int64_t stride, int64_t count) override {
    sink_.add(rows, stride, count);
  }

 private:
  const ImageRef& image_;
  const std::string& name_;
  RowSink& sink_;
};

}  // namespace

ImageRef ImageFiles::at(std::string_view file) const {
  const size_t end = file.find('\0');
  CHECK(end == file.npos, ExitCode::kBadData, "the image path {} goes on after a NUL byte",
        file.substr(0, end));
  const fs::path path(file);
  CHECK(outside_ == OutsideImages::kAllowed || !leads_outside(path), ExitCode::kBadData,
        "the image path {} leads out of {}; if that is meant, give --allow_outside_images", file,
        directory_);
  return {this, path.is_absolute() ? path.string() : directory_ + "/" + path.string()};
}

RgbImage load_image(const ImageRef& image, int64_t max_pixels) {
  const std::string name = image.name();
  RgbImage decoded = decode_image(image.source->read(image.key), name, max_pixels);
  check_sides(image, name, decoded.width, decoded.height);
  return decoded;
}

void decode_image(const ImageRef& image, std::string_view file, int64_t max_pixels, RowSink& sink) {
  const std::string name = image.name();
  LargeEnough checked(image, name, sink);
  decode_image(file, name, max_pixels, checked);
}

}  // namespace facet
