// Compiled without contraction of a * b + c (see the Makefile): every operation rounds as in
// Pillow.
#include "data/resize.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace facet {
namespace {

constexpr double kSupport = 2.0;  // the cubic extends two source pixels to each side
constexpr int kFractionBits =
    32 - 8 - 2;  // of integer weights: leaves 8 bits for the pixel and 2 of headroom
constexpr int32_t kHalf = 1 << (kFractionBits - 1);

double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
  return 0.0;
}

// Which source pixels contribute to each target pixel along one axis, and with which weights.
struct Weights {
  struct Window {
    int64_t begin, count;
  };
  std::vector<Window> windows;   // (target pixels)
  std::vector<int32_t> weights;  // (target pixels, stride)
  int64_t stride = 0;
};

int32_t to_fixed_point(double weight) {
  const double scaled = weight * (1 << kFractionBits);
  return static_cast<int32_t>(weight < 0 ? scaled - 0.5 : scaled + 0.5);
}

// For the target pixels [first, first + count) of `target`.
Weights make_weights(int64_t source, int64_t target, int64_t first, int64_t count) {
  const double scale = static_cast<double>(source) / static_cast<double>(target);
  const double filter_scale = std::max(scale, 1.0);
  const double support = kSupport * filter_scale;
  const double inverse = 1.0 / filter_scale;
  Weights result;
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

uint8_t to_byte(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255));
}

// One row: source (source width, 3), out (axis.windows.size(), 3).
void resize_row(const uint8_t* source, const Weights& axis, uint8_t* out) {
  for (size_t x = 0; x < axis.windows.size(); ++x) {
    const auto [begin, count] = axis.windows[x];
    const int32_t* weights = &axis.weights[x * static_cast<size_t>(axis.stride)];
    const uint8_t* pixel = source + 3 * begin;
    int32_t red = kHalf, green = kHalf, blue = kHalf;
    for (int64_t i = 0; i < count; ++i, pixel += 3) {
      red += weights[i] * pixel[0];
      green += weights[i] * pixel[1];
      blue += weights[i] * pixel[2];
    }
    out[3 * x] = to_byte(red);
    out[3 * x + 1] = to_byte(green);
    out[3 * x + 2] = to_byte(blue);
  }
}

// One row from several: rows (window.count, row_bytes), sums (row_bytes) scratch.
void combine_rows(const uint8_t* rows, int64_t count, const int32_t* weights, int64_t row_bytes,
                  int32_t* sums, uint8_t* out) {
  std::fill(sums, sums + row_bytes, kHalf);
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t* row = rows + i * row_bytes;
    const int32_t weight = weights[i];
#pragma omp simd
    for (int64_t x = 0; x < row_bytes; ++x) sums[x] += weight * row[x];
  }
  for (int64_t x = 0; x < row_bytes; ++x) out[x] = to_byte(sums[x]);
}

}  // namespace

RgbImage resize_bicubic(const RgbImage& image, int64_t width, int64_t height,
                        const Region& region) {
  ASSERT(image.width > 0 && image.height > 0, "empty image");
  ASSERT(region.x >= 0 && region.width > 0 && region.x + region.width <= width && region.y >= 0 &&
             region.height > 0 && region.y + region.height <= height,
         "region {},{} {} x {} is not inside {} x {}", region.x, region.y, region.width,
         region.height, width, height);
  // An unchanged axis needs no special case: its weights are one 1 and zeros.
  const Weights across = make_weights(image.width, width, region.x, region.width);
  const Weights down = make_weights(image.height, height, region.y, region.height);
  const int64_t first_row = down.windows.front().begin;
  const int64_t end_row = down.windows.back().begin + down.windows.back().count;
  const int64_t row_bytes = 3 * region.width;
  std::vector<uint8_t> narrow(static_cast<size_t>(row_bytes * (end_row - first_row)));
  for (int64_t y = first_row; y < end_row; ++y)
    resize_row(&image.pixels[static_cast<size_t>(3 * image.width * y)], across,
               &narrow[static_cast<size_t>(row_bytes * (y - first_row))]);

  RgbImage result{region.width, region.height, {}};
  result.pixels.resize(static_cast<size_t>(row_bytes * region.height));
  std::vector<int32_t> sums(static_cast<size_t>(row_bytes));
  for (int64_t y = 0; y < region.height; ++y) {
    const auto [begin, count] = down.windows[static_cast<size_t>(y)];
    combine_rows(&narrow[static_cast<size_t>(row_bytes * (begin - first_row))], count,
                 &down.weights[static_cast<size_t>(y * down.stride)], row_bytes, sums.data(),
                 &result.pixels[static_cast<size_t>(row_bytes * y)]);
  }
  return result;
}

}  // namespace facet
