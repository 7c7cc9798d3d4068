// Compiled without contraction of a * b + c (see the Makefile): every operation rounds as in
// Pillow.
#include "data/resize.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace facet {
namespace {

constexpr double kSupport = 2.0;  // the cubic extends two source pixels to each side

double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
  return 0.0;
}

int32_t to_fixed_point(double weight) {
  const double scaled = weight * (1 << kWeightFractionBits);
  return static_cast<int32_t>(weight < 0 ? scaled - 0.5 : scaled + 0.5);
}

// For the target pixels [first, first + count) of `target`.
AxisWeights make_weights(int64_t source, int64_t target, int64_t first, int64_t count) {
  const double scale = static_cast<double>(source) / static_cast<double>(target);
  const double filter_scale = std::max(scale, 1.0);
  const double support = kSupport * filter_scale;
  const double inverse = 1.0 / filter_scale;
  AxisWeights result;
  result.stride = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  result.windows.resize(static_cast<size_t>(count));
  result.weights.resize(static_cast<size_t>(count * result.stride));
  std::vector<double> row(static_cast<size_t>(result.stride));
  for (int64_t t = 0; t < count; ++t) {
    const double center = (static_cast<double>(first + t) + 0.5) * scale;
    const int64_t begin = std::max<int64_t>(static_cast<int64_t>(center - support + 0.5), 0);
    const int64_t end = std::min<int64_t>(static_cast<int64_t>(center + support + 0.5), source);
    double sum = 0;
    for (int64_t i = 0; i < end - begin; ++i) {
      const double x = (static_cast<double>(i + begin) - center + 0.5) * inverse;
      row[static_cast<size_t>(i)] = cubic(x);
      sum += row[static_cast<size_t>(i)];
    }
    int32_t* weights = &result.weights[static_cast<size_t>(t * result.stride)];
    for (int64_t i = 0; i < end - begin; ++i) {
      const double weight = row[static_cast<size_t>(i)];
      weights[i] = to_fixed_point(sum != 0 ? weight / sum : weight);
    }
    result.windows[static_cast<size_t>(t)] = {begin, end - begin};
  }
  return result;
}

}  // namespace

BicubicResizer::BicubicResizer(int64_t width, int64_t height, const Region& region,
                               TakeRow take_row, ResizeCode code)
    : width_(width),
      height_(height),
      region_(region),
      take_row_(std::move(take_row)),
      code_(code),
      combine_(code) {
  ASSERT(region.x >= 0 && region.width > 0 && region.x + region.width <= width && region.y >= 0 &&
             region.height > 0 && region.y + region.height <= height,
         "region {},{} {} x {} is not inside {} x {}", region.x, region.y, region.width,
         region.height, width, height);
}

Region BicubicResizer::begin(int64_t width, int64_t height) {
  // An unchanged axis needs no special case: its weights are one 1 and zeros.
  AxisWeights across = make_weights(width, width_, region_.x, region_.width);
  down_ = make_weights(height, height_, region_.y, region_.height);
  const Region needed{across.begin(), down_.begin(), across.end() - across.begin(),
                      down_.end() - down_.begin()};
  across.shift_to_begin();
  down_.shift_to_begin();
  source_bytes_ = 3 * needed.width;
  across_.emplace(std::move(across), code_);
  kept_ = down_.longest() + HorizontalPass::kRows;
  narrow_bytes_ = VerticalPass::room(HorizontalPass::room(region_.width));
  narrow_.resize(static_cast<size_t>(kept_ * narrow_bytes_));
  row_.resize(static_cast<size_t>(narrow_bytes_));
  rows_in_ = rows_out_ = 0;
  return needed;
}

void BicubicResizer::add(const uint8_t* rows, int64_t stride, int64_t count) {
  for (int64_t y = 0; y < count; y += HorizontalPass::kRows) {
    const int64_t few = std::min(count - y, HorizontalPass::kRows);
    std::array<const uint8_t*, HorizontalPass::kRows> each{};
    for (int64_t i = 0; i < few; ++i) {
      const auto r = static_cast<size_t>(i);
      each[r] = rows + (y + i) * stride;
      if ((count - 1 - y - i) * stride >= HorizontalPass::kBehind) continue;
      copies_[r].resize(static_cast<size_t>(source_bytes_ + HorizontalPass::kBehind));
      std::copy_n(each[r], source_bytes_, copies_[r].begin());
      each[r] = copies_[r].data();
    }
    add_few(each, few);
  }
}

void BicubicResizer::add_few(const std::array<const uint8_t*, HorizontalPass::kRows>& rows,
                             int64_t count) {
  std::array<uint8_t*, HorizontalPass::kRows> out{};
  for (int64_t i = 0; i < count; ++i) out[static_cast<size_t>(i)] = narrow_row(rows_in_ + i);
  across_->run(rows, count, out);
  rows_in_ += count;
  finish_rows();
}

// Rows of the result whose windows are complete.
void BicubicResizer::finish_rows() {
  for (; rows_out_ < region_.height; ++rows_out_) {
    const auto [begin, count] = down_.windows[static_cast<size_t>(rows_out_)];
    if (begin + count > rows_in_) return;
    window_.clear();
    for (int64_t y = begin; y < begin + count; ++y) window_.push_back(narrow_row(y));
    combine_.run(window_, &down_.weights[static_cast<size_t>(rows_out_ * down_.stride)],
                 3 * region_.width, row_.data());
    take_row_(row_.data());
  }
}

RgbImage resize_bicubic(const RgbImage& image, int64_t width, int64_t height, const Region& region,
                        ResizeCode code) {
  RgbImage result{region.width, region.height, {}};
  result.pixels.reserve(static_cast<size_t>(3 * region.width * region.height));
  BicubicResizer resizer(
      width, height, region,
      [&](const uint8_t* rgb) {
        result.pixels.insert(result.pixels.end(), rgb, rgb + 3 * region.width);
      },
      code);
  send_rows(image, resizer);
  return result;
}

}  // namespace facet
