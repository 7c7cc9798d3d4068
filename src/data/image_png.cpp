// libpng reports errors through callbacks that must not return. They leave by longjmp: no C++
// object with a destructor lives between a setjmp below and the library's calls.
#include <png.h>

#include <csetjmp>
#include <cstdio>
#include <cstring>

#include "base/check.h"
#include "data/image_codecs.h"

namespace facet {
namespace {

class PngReader {
 public:
  explicit PngReader(std::string_view bytes) : bytes_(bytes) {
    png_ = png_create_read_struct(
        PNG_LIBPNG_VER_STRING, this,
        [](png_structp png, png_const_charp message) {
          auto* self = static_cast<PngReader*>(png_get_error_ptr(png));
          self->fail_with(message);
        },
        // Warnings concern colour profiles and other metadata, not the pixels.
        [](png_structp, png_const_charp) {});
    if (png_) info_ = png_create_info_struct(png_);
  }
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  bool read_header() {
    if (!png_ || !info_) return false;
    if (setjmp(jump_)) return false;
    png_set_read_fn(png_, this, [](png_structp png, png_bytep out, png_size_t count) {
      auto* self = static_cast<PngReader*>(png_get_io_ptr(png));
      if (count > self->bytes_.size() - self->read_) self->fail_with("the file is truncated");
      std::memcpy(out, self->bytes_.data() + self->read_, count);
      self->read_ += count;
    });
    png_read_info(png_, info_);
    return true;
  }

  int64_t width() const { return png_get_image_width(png_, info_); }
  int64_t height() const { return png_get_image_height(png_, info_); }
  bool is_palette() const { return png_get_color_type(png_, info_) == PNG_COLOR_TYPE_PALETTE; }
  bool is_gray_16() const {
    return png_get_color_type(png_, info_) == PNG_COLOR_TYPE_GRAY &&
           png_get_bit_depth(png_, info_) == 16;
  }

  // Bytes per pixel of `out` below: a palette index, else RGB.
  int64_t channels() const { return is_palette() ? 1 : 3; }

  // out: (height, width, channels); rows: (height) scratch.
  bool read_pixels(uint8_t* out, png_bytep* rows) {
    if (setjmp(jump_)) return false;
    if (is_palette()) {
      png_set_packing(png_);
    } else {
      png_set_strip_16(png_);
      png_set_strip_alpha(png_);
      png_set_expand_gray_1_2_4_to_8(png_);
      png_set_gray_to_rgb(png_);
    }
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    const size_t row_bytes = static_cast<size_t>(width() * channels());
    if (png_get_rowbytes(png_, info_) != row_bytes) fail_with("unexpected row size");
    for (int64_t y = 0; y < height(); ++y) rows[y] = out + row_bytes * static_cast<size_t>(y);
    png_read_image(png_, rows);
    png_read_end(png_, nullptr);
    return true;
  }

  // Replaces indices by the palette's colours; false if an index is out of range.
  bool expand_palette(const std::vector<uint8_t>& indices, std::vector<uint8_t>& rgb) const {
    png_colorp colors = nullptr;
    int count = 0;
    png_get_PLTE(png_, info_, &colors, &count);
    for (size_t i = 0; i < indices.size(); ++i) {
      if (indices[i] >= count) return false;
      const png_color color = colors[indices[i]];
      rgb[3 * i] = color.red;
      rgb[3 * i + 1] = color.green;
      rgb[3 * i + 2] = color.blue;
    }
    return true;
  }

  const char* message() const { return message_; }

 private:
  [[noreturn]] void fail_with(const char* message) {
    std::snprintf(message_, sizeof message_, "%s", message);
    std::longjmp(jump_, 1);
  }

  std::string_view bytes_;
  size_t read_ = 0;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::jmp_buf jump_;
  char message_[128] = "out of memory";
};

}  // namespace

std::string encode_png(const RgbImage& image) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = PNG_FORMAT_RGB;
  png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::string file(bytes, '\0');
  ASSERT(png_image_write_to_memory(&png, file.data(), &bytes, 0, image.pixels.data(), 0, nullptr),
         "libpng: {}", png.message);
  file.resize(bytes);
  return file;
}

RgbImage decode_png(std::string_view bytes, const std::string& name, int64_t max_pixels) {
  PngReader reader(bytes);
  CHECK(reader.read_header(), ExitCode::kBadData, "{}: damaged PNG: {}", name, reader.message());
  check_pixel_limit(reader.width(), reader.height(), max_pixels, name);
  CHECK(!reader.is_gray_16(), ExitCode::kBadData,
        "{}: 16-bit gray PNG has no standard conversion to 8 bits; convert it", name);
  RgbImage image{reader.width(), reader.height(), {}};
  const size_t count = static_cast<size_t>(image.width * image.height);
  std::vector<uint8_t> samples(count * static_cast<size_t>(reader.channels()));
  std::vector<png_bytep> rows(static_cast<size_t>(image.height));
  CHECK(reader.read_pixels(samples.data(), rows.data()), ExitCode::kBadData, "{}: damaged PNG: {}",
        name, reader.message());
  if (!reader.is_palette()) {
    image.pixels = std::move(samples);
    return image;
  }
  image.pixels.resize(3 * count);
  CHECK(reader.expand_palette(samples, image.pixels), ExitCode::kBadData,
        "{}: damaged PNG: a pixel's colour is not in the palette", name);
  return image;
}

}  // namespace facet
