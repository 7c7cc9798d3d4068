#include "emulated/device/host_product.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/half.h"

namespace facet::emulated {
namespace {

using Vector = float __attribute__((vector_size(32)));
constexpr int64_t kLanes = 8;
// A tile of D whose sums stay in registers.
constexpr int64_t kTileRows = 2 * kLanes, kTileCols = 6;
constexpr int64_t kShortDepth = 32;  // if partial sums are rounded, to make it visible

int64_t tiles_of(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

float as_tf32(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return std::isfinite(x) ? std::bit_cast<float>((bits + 0x0fff + (bits >> 13 & 1)) & ~0x1fffu) : x;
}

float get(const StridedMatrix& x, int64_t row, int64_t col) {
  const int64_t at = row * x.row_step + col * x.col_step;
  if (x.dtype == DType::kF32) return static_cast<const float*>(x.data)[at];
  return float_from_16_bits(static_cast<const uint16_t*>(x.data)[at], x.dtype);
}

void put(const StridedMatrix& x, int64_t row, int64_t col, float value) {
  const int64_t at = row * x.row_step + col * x.col_step;
  if (x.dtype == DType::kF32)
    static_cast<float*>(x.data)[at] = value;
  else
    static_cast<uint16_t*>(x.data)[at] = round_to_16_bits(value, x.dtype);
}

// Rows of one input as fp32, kWide of them interleaved for every step of the depth, padded with
// zero rows.
template <int64_t kWide>
class Panels {
 public:
  Panels(const StridedMatrix& rows_by_depth, InputPrecision precision)
      : depth_(rows_by_depth.cols),
        values_(static_cast<size_t>(tiles_of(rows_by_depth.rows, kWide) * kWide * depth_)) {
    const StridedMatrix& x = rows_by_depth;
    for (int64_t row = 0; row < x.rows; ++row) {
      float* to = values_.data() + row / kWide * kWide * depth_ + row % kWide;
      for (int64_t k = 0; k < depth_; ++k) {
        const float value = get(x, row, k);
        to[k * kWide] = precision == InputPrecision::kTF32 ? as_tf32(value) : value;
      }
    }
  }
  const float* tile(int64_t index, int64_t depth) const {
    return values_.data() + (index * depth_ + depth) * kWide;
  }

 private:
  int64_t depth_;
  std::vector<float> values_;
};

struct Tile {
  float sum[kTileCols][kTileRows];
};

Tile multiply_tile(const float* a, const float* b, int64_t depth) {
  Vector sum[kTileCols][2] = {};
  for (int64_t k = 0; k < depth; ++k, a += kTileRows, b += kTileCols) {
    Vector low, high;
    std::memcpy(&low, a, sizeof low);
    std::memcpy(&high, a + kLanes, sizeof high);
#pragma GCC unroll 6
    for (int64_t j = 0; j < kTileCols; ++j) {
      sum[j][0] += low * b[j];
      sum[j][1] += high * b[j];
    }
  }
  Tile tile;
  static_assert(sizeof tile == sizeof sum);
  std::memcpy(&tile, &sum, sizeof tile);
  return tile;
}

float rounded_to(float x, DType dtype) {
  return is_16_bit(dtype) ? float_from_16_bits(round_to_16_bits(x, dtype), dtype) : x;
}

// The sums of D's elements, column by column, with columns padded to whole tiles.
class Sums {
 public:
  Sums(const StridedMatrix& d, PartialSums partial_sums)
      : rows_(tiles_of(d.rows, kTileRows) * kTileRows),
        values_(static_cast<size_t>(rows_ * tiles_of(d.cols, kTileCols) * kTileCols), 0.0f),
        rounds_(partial_sums == PartialSums::kOutputType),
        dtype_(d.dtype) {}

  void add(const Tile& tile, int64_t row, int64_t col) {
    for (int64_t j = 0; j < kTileCols; ++j) {
      float* sum = &values_[static_cast<size_t>((col + j) * rows_ + row)];
      for (int64_t i = 0; i < kTileRows; ++i) sum[i] += tile.sum[j][i];
      for (int64_t i = 0; rounds_ && i < kTileRows; ++i) sum[i] = rounded_to(sum[i], dtype_);
    }
  }
  float at(int64_t row, int64_t col) const {
    return values_[static_cast<size_t>(col * rows_ + row)];
  }

 private:
  int64_t rows_;
  std::vector<float> values_;
  bool rounds_;
  DType dtype_;
};

}  // namespace

void HostProduct::compute() const {
  const Panels<kTileRows> a_panels(a, inputs);
  const Panels<kTileCols> b_panels(transposed(b), inputs);
  const int64_t part = partial_sums == PartialSums::kFP32 ? depth : kShortDepth;
  Sums sums(d, partial_sums);
  for (int64_t begin = 0; begin < a.cols; begin += part)
    for (int64_t col = 0; col < d.cols; col += kTileCols)
      for (int64_t row = 0; row < d.rows; row += kTileRows)
        sums.add(
            multiply_tile(a_panels.tile(row / kTileRows, begin),
                          b_panels.tile(col / kTileCols, begin), std::min(part, a.cols - begin)),
            row, col);
  for (int64_t col = 0; col < d.cols; ++col)
    for (int64_t row = 0; row < d.rows; ++row) {
      float value = alpha * sums.at(row, col);
      if (beta != 0) value += beta * get(c, row, col);
      if (bias.data) value += get(bias, row, 0);
      put(d, row, col, value);
    }
}

}  // namespace facet::emulated
