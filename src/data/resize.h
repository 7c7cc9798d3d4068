// Bicubic resizing with exactly the result of Pillow's Image.resize(size, BICUBIC).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "data/image.h"
#include "data/resize_passes.h"

namespace facet {

// Antialiased bicubic (a = -0.5), 8-bit fixed point, horizontal pass first. It takes the rows of an
// image as they are decoded and keeps only those that the next row of the result needs, as wide as
// the result. Only `region`, inside the target of width x height, is computed: the cost of a crop
// does not depend on the size of the target.
class BicubicResizer : public RowSink {
 public:
  // A row of the region, from above to below: (region.width, 3).
  using TakeRow = std::function<void(const uint8_t* rgb)>;

  BicubicResizer(int64_t width, int64_t height, const Region& region, TakeRow take_row,
                 ResizeCode code = ResizeCode::kFastest);

  Region begin(int64_t width, int64_t height) override;
  void add(const uint8_t* rows, int64_t stride, int64_t count) override;

 private:
  // With up to HorizontalPass::kRows rows.
  void add_few(const std::array<const uint8_t*, HorizontalPass::kRows>& rows, int64_t count);
  uint8_t* narrow_row(int64_t y) {
    return &narrow_[static_cast<size_t>(y % kept_ * narrow_bytes_)];
  }
  void finish_rows();

  int64_t width_;
  int64_t height_;
  Region region_;
  TakeRow take_row_;
  ResizeCode code_;
  std::optional<HorizontalPass> across_;
  VerticalPass combine_;
  AxisWeights down_;
  int64_t source_bytes_ = 0;  // of a row that comes in
  int64_t rows_in_ = 0;
  int64_t rows_out_ = 0;
  int64_t kept_ = 0;             // rows of narrow_
  int64_t narrow_bytes_ = 0;     // of each
  std::vector<uint8_t> narrow_;  // the last rows after the horizontal pass; row y is at y % kept_
  // Copies of the rows at the end of what add() was given: behind rows some bytes are read.
  std::array<std::vector<uint8_t>, HorizontalPass::kRows> copies_;
  std::vector<const uint8_t*> window_;
  std::vector<uint8_t> row_;
};

// All rows at once.
RgbImage resize_bicubic(const RgbImage& image, int64_t width, int64_t height, const Region& region,
                        ResizeCode code = ResizeCode::kFastest);

}  // namespace facet
