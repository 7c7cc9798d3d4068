// Decoding of JPEG, PNG and WebP files into 8-bit RGB, with the same pixels as Pillow 10.4's
// Image.open(file).convert("RGB"): alpha is dropped (not blended), gray and palette are expanded,
// CMYK is converted, 16-bit colour keeps its high byte, 16-bit gray is clamped to 255, an animation
// is its first frame, an EXIF orientation is ignored.
//
// A damaged file is read, or refused, as Pillow does it; docs/data.md says what is read and what is
// not. What is refused throws Error(ExitCode::kBadData) with the reason: the caller counts it as a
// bad sample. Thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace facet {

struct RgbImage {
  int64_t width = 0;
  int64_t height = 0;
  std::vector<uint8_t> pixels;  // (height, width, 3)
};

// A rectangle of pixels.
struct Region {
  int64_t x = 0, y = 0, width = 0, height = 0;
};

// Takes the rows of an image as they are decoded, so that it is nowhere as a whole.
class RowSink {
 public:
  virtual ~RowSink() = default;
  // Once, before the rows. Returns the part of the image that is wanted, at least a pixel.
  virtual Region begin(int64_t width, int64_t height) = 0;
  // The next `count` rows of that part, from above to below, (part's width, 3) each. They begin
  // `stride` bytes apart.
  virtual void add(const uint8_t* rows, int64_t stride, int64_t count) = 0;
};

// Hands a sink what it wants of a decoded image.
void send_rows(const RgbImage& image, RowSink& sink);

// Above this Pillow warns of a decompression bomb: 1024^3 / 4 / 3, a quarter of a gigabyte of RGB.
constexpr int64_t kDefaultMaxImagePixels = 89'478'485;

// Memory that decoding and resizing one image of at most so many pixels takes, beside the file's
// bytes. The most has a progressive JPEG of four colours, of which libjpeg keeps all coefficients.
constexpr int64_t max_decoding_bytes(int64_t max_pixels) {
  return 8 * max_pixels + (int64_t{64} << 20);
}

// `name` is for error messages. width * height is compared with max_pixels after the header is read
// and before anything is decompressed or allocated.
RgbImage decode_image(std::string_view bytes, const std::string& name, int64_t max_pixels);
// The same by rows. They come while the file is being read: when it turns out to be damaged, this
// throws after some of them.
void decode_image(std::string_view bytes, const std::string& name, int64_t max_pixels,
                  RowSink& sink);

// A bound for what is read into memory; no sensible image file is larger.
constexpr int64_t kMaxImageFileBytes = int64_t{1} << 30;

// The bytes of an image file; an unreadable file is ExitCode::kMissingInput.
std::string read_image_file(const std::string& path);

// Both in one call.
RgbImage load_image(const std::string& path, int64_t max_pixels);
void load_image(const std::string& path, int64_t max_pixels, RowSink& sink);

// Encodes exactly these pixels as a PNG file.
std::string encode_png(const RgbImage& image);

}  // namespace facet
