// The arithmetic of attention on tiles in a thread's scratch memory: gathering rows, small matrix
// products, softmax rows and their gradient. Compiled for the baseline and for AVX-512 and chosen
// at run time; a sum always runs over its terms in the same order, however the rows are blocked.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/half.h"
#include "kernels/cpu/simd.h"
#include "ops/attention_plan.h"

namespace facet::attention {

constexpr int64_t kLanes = 16;       // widths are padded to this many floats
constexpr int64_t kQueryBlock = 64;  // rows of q processed together
constexpr int64_t kKeyTile = 256;    // keys processed together
// Row stride of a score tile; not a power of two, so that columns spread over the cache.
constexpr int64_t kScoreStride = kKeyTile + kLanes;

constexpr int64_t padded(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// Calls body(i, row) for places i of [begin, end) in the list of rows that the ranges make up, in
// order.
template <typename Body>
void for_listed_rows(const RowRange* ranges, int64_t begin, int64_t end, const Body& body) {
  int64_t first = 0;  // place of the range's first row
  for (int64_t i = begin; i < end; first += ranges->count, ++ranges)
    for (const int64_t stop = std::min(end, first + ranges->count); i < stop; ++i)
      body(i, ranges->first + i - first);
}

// Rows of one head, `width` numbers each: the first `count` of a list, row r at data + r * stride.
// Those in 16 bits lie at words + r * stride and are widened into `wide`, which has room for kLanes
// rows, of which each stays until kLanes more have been asked for.
struct HeadRows {
  const float* data = nullptr;
  int64_t stride = 0;
  const RowRange* ranges = nullptr;
  int64_t count = 0;
  int64_t width = 0;
  const uint16_t* words = nullptr;
  DType dtype = DType::kF32;  // of the words
  float* wide = nullptr;

  template <typename Body>
  void for_rows(int64_t begin, int64_t end, const Body& body) const {
    for_listed_rows(ranges, begin, end, [&](int64_t i, int64_t row) { body(i, row_at(i, row)); });
  }
  // body(first, rows, count): up to kLanes rows together as they are stored, rows[0] being row
  // `first` of the list.
  template <typename T, typename Body>
  void for_groups(int64_t begin, int64_t end, const Body& body) const {
    const T* stored =
        words == nullptr ? reinterpret_cast<const T*>(data) : reinterpret_cast<const T*>(words);
    const T* rows[kLanes];
    int64_t count = 0;
    for_listed_rows(ranges, begin, end, [&](int64_t i, int64_t row) {
      rows[count++] = stored + row * stride;
      if (count < kLanes && i + 1 < end) return;
      body(i + 1 - count, rows, count);
      count = 0;
    });
  }

 private:
  const float* row_at(int64_t i, int64_t row) const {
    if (words == nullptr) return data + row * stride;
    float* to = wide + i % kLanes * padded(width);
    widen(to, words + row * stride, width, dtype);
    return to;
  }
};

// to (count, padded(width)) = the rows, padded with zeros.
void gather(float* to, const HeadRows& from);
// The same transposed, in panels of kLanes rows: to[panel][column][lane]; zeros for missing rows.
void gather_transposed(float* to, const HeadRows& from);

// c = a b, or c += a b. b lies in panels of kLanes columns: column n of row k is
// b[n / kLanes * b_panel + k * b_row + n % kLanes]. Limits (non-decreasing arrays with one entry a
// row of c, or null) leave out what is known to be zero or unused.
struct Product {
  float* c = nullptr;
  int64_t c_row = 0;
  const float* a = nullptr;
  int64_t a_row = 0, a_k = 0;
  const float* b = nullptr;
  int64_t b_panel = 0, b_row = 0;
  int64_t rows = 0, columns = 0, k = 0;  // columns are rounded up to kLanes
  const int32_t* column_end = nullptr;   // of row i
  const int32_t* k_begin = nullptr;
  const int32_t* k_end = nullptr;
  enum class Mode : uint8_t { kSet, kAdd } mode = Mode::kSet;
};
void multiply(const Product& product);

// One step of the softmax of `rows` rows over a tile of `keys` keys: scores (rows, kScoreStride)
// become exp(scale s - max) where hidden[row] <= key < visible[row], and 0 before it and, as far as
// a product with the same limits reads, after it; max and sum (rows) are over all tiles so far;
// factor (rows) rescales the sums of earlier tiles.
void softmax_step(float* scores, int64_t rows, int64_t keys, const int32_t* visible,
                  const int32_t* hidden, float scale, float* max, float* sum, float* factor);

// Statistics for the gradient of a row: p = exp(scale s - lse), or p = mean if that is not 0.
struct RowStatistics {
  float lse = 0, mean = 0, delta = 0;
};
// scores become p, dscores (dp before) become scale p (dp - delta); padded with 0 as above.
void softmax_gradient(float* scores, float* dscores, int64_t rows, int64_t keys,
                      const int32_t* visible, const int32_t* hidden, float scale,
                      const RowStatistics* statistics);

float dot(const float* a, const float* b, int64_t n);
// Of `count` rows of numbers in fp32, bf16 or fp16: products[j] = dot(a, rows[j], n); y += the sum
// of factors[j] rows[j], one after the other. The bits are those of dot() and add_scaled().
template <typename T>
void dot_rows(float* products, const float* a, const T* const* rows, int64_t count, int64_t n);
template <typename T>
void add_scaled_rows(float* y, const T* const* rows, const float* factors, int64_t count,
                     int64_t n);
void add_scaled(float* y, const float* x, int64_t n, float factor);  // y += factor x

}  // namespace facet::attention
