// libjpeg reports errors through callbacks that must not return. They leave by longjmp: no C++
// object with a destructor lives between a setjmp below and the library's calls.
#include <csetjmp>
#include <cstddef>
#include <cstdio>

#include <jpeglib.h>

#include "base/check.h"
#include "data/image_codecs.h"

namespace facet {
namespace {

// A progressive file of a few kilobytes can demand thousands of passes over a large image.
constexpr int kMaxScans = 256;

class JpegReader {
 public:
  explicit JpegReader(std::string_view bytes) : bytes_(bytes) {
    jpeg_.err = jpeg_std_error(&errors_);
    jpeg_.client_data = this;
    errors_.error_exit = [](j_common_ptr info) { leave(info); };
    errors_.emit_message = [](j_common_ptr info, int level) {
      if (level < 0) leave(info);  // a warning: damaged or missing data was replaced by a guess
    };
    errors_.output_message = [](j_common_ptr) {};
    progress_.progress_monitor = [](j_common_ptr info) {
      auto* jpeg = reinterpret_cast<j_decompress_ptr>(info);
      if (jpeg->input_scan_number <= kMaxScans) return;
      auto* self = static_cast<JpegReader*>(info->client_data);
      std::snprintf(self->message_, sizeof self->message_, "more than %d scans", kMaxScans);
      std::longjmp(self->jump_, 1);
    };
  }
  ~JpegReader() {
    if (created_) jpeg_destroy_decompress(&jpeg_);
  }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  bool read_header() {
    if (setjmp(jump_)) return false;
    jpeg_create_decompress(&jpeg_);
    created_ = true;
    jpeg_.progress = &progress_;
    jpeg_mem_src(&jpeg_, reinterpret_cast<const unsigned char*>(bytes_.data()), bytes_.size());
    jpeg_read_header(&jpeg_, TRUE);
    return true;
  }

  // out: (height, width, 3)
  bool read_pixels(uint8_t* out) {
    if (setjmp(jump_)) return false;
    jpeg_.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg_);
    const size_t row_bytes = size_t{3} * jpeg_.output_width;
    while (jpeg_.output_scanline < jpeg_.output_height) {
      JSAMPROW row = out + row_bytes * jpeg_.output_scanline;
      jpeg_read_scanlines(&jpeg_, &row, 1);
    }
    jpeg_finish_decompress(&jpeg_);
    return true;
  }

  int64_t width() const { return jpeg_.image_width; }
  int64_t height() const { return jpeg_.image_height; }
  bool is_rgb_or_gray() const {
    return jpeg_.jpeg_color_space == JCS_YCbCr || jpeg_.jpeg_color_space == JCS_RGB ||
           jpeg_.jpeg_color_space == JCS_GRAYSCALE;
  }
  const char* message() const { return message_; }

 private:
  [[noreturn]] static void leave(j_common_ptr info) {
    auto* self = static_cast<JpegReader*>(info->client_data);
    (*info->err->format_message)(info, self->message_);
    std::longjmp(self->jump_, 1);
  }

  std::string_view bytes_;
  jpeg_decompress_struct jpeg_{};
  jpeg_error_mgr errors_{};
  jpeg_progress_mgr progress_{};
  std::jmp_buf jump_;
  char message_[JMSG_LENGTH_MAX] = "";
  bool created_ = false;
};

}  // namespace

RgbImage decode_jpeg(std::string_view bytes, const std::string& name, int64_t max_pixels) {
  JpegReader reader(bytes);
  CHECK(reader.read_header(), ExitCode::kBadData, "{}: damaged JPEG: {}", name, reader.message());
  check_pixel_limit(reader.width(), reader.height(), max_pixels, name);
  CHECK(reader.is_rgb_or_gray(), ExitCode::kBadData,
        "{}: CMYK and other JPEG colour spaces are not supported; convert it to RGB", name);
  RgbImage image{reader.width(), reader.height(), {}};
  image.pixels.resize(static_cast<size_t>(3 * image.width * image.height));
  CHECK(reader.read_pixels(image.pixels.data()), ExitCode::kBadData, "{}: damaged JPEG: {}", name,
        reader.message());
  return image;
}

}  // namespace facet
