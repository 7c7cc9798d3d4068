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

RgbImage decode_image(const ImageRef& image, std::string_view bytes, int64_t max_pixels) {
  const std::string name = image.name();
  RgbImage decoded = decode_image(bytes, name, max_pixels);
  const int64_t smallest = image.source->min_side();
  CHECK(std::min(decoded.width, decoded.height) >= smallest, ExitCode::kBadData,
        "{}: {} x {} pixels; this data set has such images where the true one is lost, and none "
        "below {} pixels a side is used",
        name, decoded.width, decoded.height, smallest);
  return decoded;
}

RgbImage load_image(const ImageRef& image, int64_t max_pixels) {
  return decode_image(image, image.source->read(image.key), max_pixels);
}

}  // namespace facet
