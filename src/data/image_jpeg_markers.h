// The marker segments of a JPEG file (ISO/IEC 10918-1, annex B) up to its first scan. libjpeg reads
// them again; here it is found out what kind of JPEG it is, and what Pillow, which looks through
// them by itself before it calls libjpeg, would not open.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace facet {

struct JpegFrame {
  int64_t width = 0;
  int64_t height = 0;
  int64_t components = 0;  // 1: gray, 3: colour, 4: CMYK or YCCK
};

// `bytes` begins with a JPEG file's first marker. Throws Error(kBadData), with `name`, if there is
// no marker where one belongs, if a segment is cut off, or if it is a JPEG of a kind that is not
// read.
JpegFrame read_jpeg_markers(std::string_view bytes, const std::string& name);

}  // namespace facet
