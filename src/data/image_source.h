// Where the images of a data set lie: each in a file of its own, or many in one large file. A
// record names its images by keys; an ImageRef is such a key together with the place that knows it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/image.h"

namespace facet {

class ImageSource {
 public:
  virtual ~ImageSource() = default;

  // How messages call the image of this key: its path, or file and key.
  virtual std::string name_of(const std::string& key) const = 0;
  // The bytes of a JPEG, PNG or WebP file. Thread-safe. No such image: kMissingInput; damaged on
  // the way to its bytes: kBadData. Both messages begin with its name.
  virtual std::string read(const std::string& key) const = 0;
  // Images with a shorter side are bad.
  virtual int64_t min_side() const { return 1; }
};

// An image of a record. Its source must outlive it.
struct ImageRef {
  const ImageSource* source = nullptr;
  std::string key;

  std::string name() const { return source == nullptr ? key : source->name_of(key); }
};

// load_image() of it; smaller than its source allows: kBadData.
RgbImage load_image(const ImageRef& image, int64_t max_pixels);
// The same, row by row, of the bytes that its source has read.
void decode_image(const ImageRef& image, std::string_view file, int64_t max_pixels, RowSink& sink);

// What a record may name as its image. Only the words of the path are looked at: a link inside may
// lead anywhere, as links on clusters do.
enum class OutsideImages : uint8_t {
  kRefused,  // no absolute path, no ".."
  kAllowed,
};

// Image files below a directory; a key is a path.
class ImageFiles : public ImageSource {
 public:
  ImageFiles(std::string directory, OutsideImages outside, int64_t min_side = 1)
      : directory_(std::move(directory)), outside_(outside), min_side_(min_side) {}

  // The file that a record names (kBadData for one that OutsideImages refuses).
  ImageRef at(std::string_view file) const;

  std::string name_of(const std::string& key) const override { return key; }
  std::string read(const std::string& key) const override { return read_image_file(key); }
  int64_t min_side() const override { return min_side_; }

 private:
  std::string directory_;
  OutsideImages outside_;
  int64_t min_side_;
};

}  // namespace facet
