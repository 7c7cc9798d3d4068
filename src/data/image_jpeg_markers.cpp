#include "data/image_jpeg_markers.h"

#include <algorithm>

#include "base/check.h"

namespace facet {
namespace {

using namespace std::string_view_literals;

constexpr int kStartOfScan = 0xDA;
constexpr int kHierarchical = 0xDE;

// Restart markers, start and end of image, and what the standard reserves.
bool has_no_segment(int marker) {
  return (marker >= 0xD0 && marker <= 0xD9) || (marker >= 0xF0 && marker <= 0xFD) || marker == 0xC8;
}

// Huffman tables (C4) and arithmetic conditioning (CC) lie among the frame headers.
bool is_frame_header(int marker) {
  return (marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC) ||
         marker == kHierarchical;
}

// Baseline, extended and progressive, with Huffman (C0 to C2) or arithmetic coding (C9, CA).
bool is_dct_frame(int marker) {
  return (marker >= 0xC0 && marker <= 0xC2) || marker == 0xC9 || marker == 0xCA;
}

class MarkerReader {
 public:
  MarkerReader(std::string_view bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  JpegFrame read() {
    while (true) {
      const int marker = next_marker();
      if (has_no_segment(marker)) continue;
      const std::string_view segment = next_segment();
      if (is_frame_header(marker)) read_frame(marker, segment);
      check_application_data(marker, segment);
      if (marker == kStartOfScan) break;
    }
    CHECK(frame_.components > 0, ExitCode::kBadData, "{}: damaged JPEG: no frame header", name_);
    return frame_;
  }

 private:
  int next_byte() {
    CHECK(at_ < bytes_.size(), ExitCode::kBadData, "{}: damaged JPEG: the file is truncated",
          name_);
    return static_cast<unsigned char>(bytes_[at_++]);
  }
  int next_two_bytes() {
    const int high = next_byte();
    return high << 8 | next_byte();
  }

  // Bytes other than 0xFF before a marker are skipped; a marker may begin with several 0xFF, and
  // 0xFF 0 is none.
  int next_marker() {
    while (true) {
      while (next_byte() != 0xFF) {
      }
      int marker = next_byte();
      while (marker == 0xFF) marker = next_byte();
      if (marker == 0) continue;
      CHECK(marker >= 0xC0, ExitCode::kBadData, "{}: damaged JPEG: no marker at byte {}", name_,
            at_ - 1);
      return marker;
    }
  }

  std::string_view next_segment() {
    const auto length = static_cast<size_t>(std::max(next_two_bytes() - 2, 0));
    CHECK(length <= bytes_.size() - at_, ExitCode::kBadData,
          "{}: damaged JPEG: the file is truncated", name_);
    at_ += length;
    return bytes_.substr(at_ - length, length);
  }

  void read_frame(int marker, std::string_view segment) {
    // 6 bytes and 3 for each component
    CHECK(segment.size() >= 6 && segment.size() % 3 == 0, ExitCode::kBadData,
          "{}: damaged JPEG: a frame header of {} bytes", name_, segment.size());
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(segment[i]); };
    CHECK(is_dct_frame(marker), ExitCode::kBadData,
          "{}: a lossless or hierarchical JPEG; convert it to baseline or progressive", name_);
    CHECK(byte(0) == 8, ExitCode::kBadData,
          "{}: a JPEG of {} bits a sample; only 8 bits are read: convert it", name_, byte(0));
    frame_ = {byte(3) << 8 | byte(4), byte(1) << 8 | byte(2), byte(5)};
    CHECK(frame_.components == 1 || frame_.components == 3 || frame_.components == 4,
          ExitCode::kBadData, "{}: a JPEG of {} colour components; convert it to RGB", name_,
          frame_.components);
  }

  void check_application_data(int marker, std::string_view segment) const {
    const bool too_short =
        (marker == 0xE0 && segment.starts_with("JFIF"sv) && segment.size() < 7) ||
        (marker == 0xEE && segment.starts_with("Adobe"sv) && segment.size() < 7);
    CHECK(!too_short, ExitCode::kBadData, "{}: damaged JPEG: an application segment of {} bytes",
          name_, segment.size());
  }

  std::string_view bytes_;
  const std::string& name_;
  size_t at_ = 0;
  JpegFrame frame_;
};

}  // namespace

JpegFrame read_jpeg_markers(std::string_view bytes, const std::string& name) {
  return MarkerReader(bytes, name).read();
}

}  // namespace facet
