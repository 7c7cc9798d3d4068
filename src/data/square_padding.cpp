#include "data/square_padding.h"

#include <algorithm>

#include "base/check.h"

namespace facet {

Region SquarePadding::begin(int64_t width, int64_t height) {
  const int64_t side = std::max(width, height);
  const int64_t left = (side - width) / 2, top = (side - height) / 2;
  wanted_ = sink_.begin(side, side);
  inner_.x = std::max(wanted_.x, left);
  inner_.y = std::max(wanted_.y, top);
  inner_.width = std::min(wanted_.x + wanted_.width, left + width) - inner_.x;
  inner_.height = std::min(wanted_.y + wanted_.height, top + height) - inner_.y;
  ASSERT(inner_.width > 0 && inner_.height > 0, "no part of an image of {} x {} is wanted", width,
         height);
  bar_.resize(static_cast<size_t>(3 * kRows * wanted_.width));
  for (size_t i = 0; i < bar_.size(); ++i) bar_[i] = colour_[i % 3];
  rows_ = bar_;
  rows_in_ = 0;
  add_bar(inner_.y - wanted_.y);
  return {inner_.x - left, inner_.y - top, inner_.width, inner_.height};
}

void SquarePadding::add_bar(int64_t rows) {
  for (int64_t y = 0; y < rows; y += kRows)
    sink_.add(bar_.data(), 3 * wanted_.width, std::min(kRows, rows - y));
}

void SquarePadding::add(const uint8_t* rows, int64_t stride, int64_t count) {
  for (int64_t y = 0; y < count; y += kRows) {
    const int64_t few = std::min(kRows, count - y);
    for (int64_t i = 0; i < few; ++i)
      std::copy_n(rows + (y + i) * stride, 3 * inner_.width,
                  rows_.begin() + 3 * (i * wanted_.width + inner_.x - wanted_.x));
    sink_.add(rows_.data(), 3 * wanted_.width, few);
  }
  rows_in_ += count;
  if (rows_in_ == inner_.height) add_bar(wanted_.y + wanted_.height - inner_.y - inner_.height);
}

}  // namespace facet
