// The decoders of decode_image().
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/image.h"

namespace facet {

void decode_jpeg(std::string_view bytes, const std::string& name, int64_t max_pixels,
                 RowSink& sink);
void decode_png(std::string_view bytes, const std::string& name, int64_t max_pixels, RowSink& sink);
void decode_webp(std::string_view bytes, const std::string& name, int64_t max_pixels,
                 RowSink& sink);

// Throws Error(kBadData) if the size in the header exceeds the limit (--max_image_pixels).
void check_pixel_limit(int64_t width, int64_t height, int64_t max_pixels, const std::string& name);

// Hands a sink the wanted part of rows that come as the decoder has them. A few are handed over
// together.
class RowBand {
 public:
  RowBand(int64_t width, int64_t height, RowSink& sink)
      : wanted_(sink.begin(width, height)),
        sink_(sink),
        right_(width),
        capacity_(std::min(height, kMostRows)) {}

  const Region& wanted() const { return wanted_; }
  // Rows begin with this column of the image and end before the other; by default they are whole.
  // Before the first row.
  void set_columns(int64_t left, int64_t right);

  // Where to put the next row, (columns, 3). What is there means nothing.
  uint8_t* next_row();
  // After the last row.
  void finish() { flush(); }

 private:
  static constexpr int64_t kMostRows = 16;

  void flush();

  Region wanted_;
  RowSink& sink_;
  int64_t left_ = 0;
  int64_t right_;
  int64_t capacity_;   // rows
  int64_t first_ = 0;  // the image's row that is the band's first
  int64_t rows_ = 0;   // in the band
  std::vector<uint8_t> band_;
};

}  // namespace facet
