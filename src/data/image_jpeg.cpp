// libjpeg reports errors through callbacks that must not return. They leave by longjmp: no C++
// object with a destructor lives between a setjmp below and the library's calls.
#include <algorithm>
#include <csetjmp>
#include <cstddef>
#include <cstdio>

#include <jpeglib.h>

#include "base/check.h"
#include "data/image_codecs.h"
#include "data/image_jpeg_markers.h"

namespace facet {
namespace {

// A progressive file of a few kilobytes can demand thousands of passes over a large image.
constexpr int kMaxScans = 256;

// Pillow's: each of cyan, magenta and yellow takes its share of what black leaves. libjpeg gives
// Adobe's inverted values whatever the file says: 255 is no ink. pixels: (width, 4), rgb: (width,
// 3)
void cmyk_to_rgb(const uint8_t* pixels, int64_t width, uint8_t* rgb) {
  for (int64_t x = 0; x < width; ++x, pixels += 4, rgb += 3) {
    const int light = pixels[3];
    for (int c = 0; c < 3; ++c) {
      const int product = (255 - pixels[c]) * light + 128;
      rgb[c] = static_cast<uint8_t>(light - ((product + (product >> 8)) >> 8));
    }
  }
}

// The file's bytes and nothing after them: libjpeg's own source puts an end marker there, and a cut
// image would get gray pixels for those that are missing. This one makes libjpeg pause instead.
jpeg_source_mgr source_of(std::string_view bytes) {
  jpeg_source_mgr source{};
  source.next_input_byte = reinterpret_cast<const JOCTET*>(bytes.data());
  source.bytes_in_buffer = bytes.size();
  source.init_source = source.term_source = [](j_decompress_ptr) {};
  source.fill_input_buffer = [](j_decompress_ptr) -> boolean { return FALSE; };
  source.skip_input_data = [](j_decompress_ptr info, long count) {
    const size_t skipped = std::min(static_cast<size_t>(count), info->src->bytes_in_buffer);
    info->src->next_input_byte += skipped;
    info->src->bytes_in_buffer -= skipped;
  };
  source.resync_to_restart = jpeg_resync_to_restart;
  return source;
}

// Each step returns false with a message() if it failed. libjpeg's warnings (damaged data, replaced
// by a guess) are none to Pillow, so they are none here.
class JpegReader {
 public:
  explicit JpegReader(std::string_view bytes) : source_(source_of(bytes)) {
    jpeg_.err = jpeg_std_error(&errors_);
    jpeg_.client_data = this;
    errors_.error_exit = [](j_common_ptr info) { leave(info); };
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
    jpeg_.src = &source_;
    int found = JPEG_HEADER_TABLES_ONLY;
    while (found == JPEG_HEADER_TABLES_ONLY) found = jpeg_read_header(&jpeg_, FALSE);
    return found == JPEG_HEADER_OK;
  }

  // Only the columns [left, right), or a few more, need be decoded; left() and right() are what is.
  bool start(int64_t left, int64_t right) {
    if (setjmp(jump_)) return false;
    jpeg_.out_color_space = is_cmyk() ? JCS_CMYK : JCS_RGB;
    if (!jpeg_start_decompress(&jpeg_)) return false;
    if (is_smoothed()) {
      std::snprintf(message_, sizeof message_, "scans of a progressive image are missing");
      return false;
    }
    crop(left, right);
    return true;
  }

  // The next row: (right() - left(), 3), or 4 values a pixel if it is_cmyk().
  bool read_row(uint8_t* samples) {
    if (setjmp(jump_)) return false;
    return jpeg_read_scanlines(&jpeg_, &samples, 1) == 1;
  }

  // After the last row.
  bool finish() {
    if (setjmp(jump_)) return false;
    jpeg_finish_decompress(&jpeg_);  // the end marker may be missing
    return true;
  }

  int64_t width() const { return jpeg_.image_width; }
  int64_t height() const { return jpeg_.image_height; }
  int64_t left() const { return left_; }
  int64_t right() const { return left_ + jpeg_.output_width; }
  bool is_cmyk() const { return jpeg_.num_components == 4; }
  const char* message() const { return message_; }

 private:
  [[noreturn]] static void leave(j_common_ptr info) {
    auto* self = static_cast<JpegReader*>(info->client_data);
    (*info->err->format_message)(info, self->message_);
    std::longjmp(self->jump_, 1);
  }

  // Chroma is blended between neighbours: the columns beside what is wanted count too. All of the
  // file is read nevertheless, and only the transforms beyond are left out; the pixels and what is
  // refused stay the same. Versions of libjpeg that can't do this decode all columns.
  void crop(int64_t left, int64_t right) {
#if defined(LIBJPEG_TURBO_VERSION_NUMBER) && LIBJPEG_TURBO_VERSION_NUMBER >= 2001000
    constexpr int64_t kBlended = 4;
    const int64_t end = std::min<int64_t>(right + kBlended, jpeg_.output_width);
    auto first = static_cast<JDIMENSION>(std::max<int64_t>(left - kBlended, 0));
    auto columns = static_cast<JDIMENSION>(end - first);
    if (columns == jpeg_.output_width) return;
    jpeg_crop_scanline(&jpeg_, &first, &columns);
    left_ = first;
#else
    static_cast<void>(left), static_cast<void>(right);
#endif
  }

  // Where scans are missing, libjpeg guesses the low frequencies from the blocks around, each
  // version in its own way. `coef_bits` has the bits that each coefficient lacks; -1: all.
  bool is_smoothed() const {
    if (!jpeg_.progressive_mode || !jpeg_.coef_bits) return false;
    bool lacks_bits = false;
    for (int c = 0; c < jpeg_.num_components; ++c) {
      const int* missing = jpeg_.coef_bits[c];
      if (missing[0] < 0) return false;  // nothing to guess from
      lacks_bits |= std::any_of(missing + 1, missing + 10, [](int bits) { return bits != 0; });
    }
    return lacks_bits;
  }

  jpeg_source_mgr source_;
  jpeg_decompress_struct jpeg_{};
  jpeg_error_mgr errors_{};
  jpeg_progress_mgr progress_{};
  std::jmp_buf jump_;
  char message_[JMSG_LENGTH_MAX] = "the file is truncated";
  bool created_ = false;
  int64_t left_ = 0;  // the first column that is decoded
};

}  // namespace

void decode_jpeg(std::string_view bytes, const std::string& name, int64_t max_pixels,
                 RowSink& sink) {
  const JpegFrame frame = read_jpeg_markers(bytes, name);
  check_pixel_limit(frame.width, frame.height, max_pixels, name);
  JpegReader reader(bytes);
  const auto check = [&](bool done) {
    CHECK(done, ExitCode::kBadData, "{}: damaged JPEG: {}", name, reader.message());
  };
  check(reader.read_header());
  CHECK(reader.width() == frame.width && reader.height() == frame.height, ExitCode::kBadData,
        "{}: damaged JPEG: frame headers of different sizes", name);
  RowBand band(frame.width, frame.height, sink);
  check(reader.start(band.wanted().x, band.wanted().x + band.wanted().width));
  band.set_columns(reader.left(), reader.right());
  const int64_t columns = reader.right() - reader.left();
  std::vector<uint8_t> inks(reader.is_cmyk() ? static_cast<size_t>(4 * columns) : 0);
  for (int64_t y = 0; y < frame.height; ++y) {
    uint8_t* row = band.next_row();
    check(reader.read_row(reader.is_cmyk() ? inks.data() : row));
    if (reader.is_cmyk()) cmyk_to_rgb(inks.data(), columns, row);
  }
  check(reader.finish());
  band.finish();
}

}  // namespace facet
