#include "data/resize_passes.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace facet {
namespace {

#ifdef __AVX2__
constexpr bool kHasVectors = true;
#else
constexpr bool kHasVectors = false;
#endif

constexpr int32_t kHalf = 1 << (kWeightFractionBits - 1);
// A weight is upper * 2^15 + lower, both of which fit into 16 bits with a sign.
constexpr int kLowerBits = 15;

int32_t upper_half(int32_t weight) { return weight >> kLowerBits; }
int32_t lower_half(int32_t weight) { return weight & ((1 << kLowerBits) - 1); }

uint8_t to_byte(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kWeightFractionBits, 0, 255));
}

// source: (source width, 3), out: (target width, 3)
void resize_row(const uint8_t* source, const AxisWeights& across, uint8_t* out) {
  for (size_t x = 0; x < across.windows.size(); ++x) {
    const auto [begin, count] = across.windows[x];
    const int32_t* weights = &across.weights[x * static_cast<size_t>(across.stride)];
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

// sums: (bytes) scratch
void combine_rows(const std::vector<const uint8_t*>& rows, const int32_t* weights, int64_t bytes,
                  int32_t* sums, uint8_t* out) {
  std::fill(sums, sums + bytes, kHalf);
  for (size_t i = 0; i < rows.size(); ++i) {
    const uint8_t* row = rows[i];
    const int32_t weight = weights[i];
#pragma omp simd
    for (int64_t x = 0; x < bytes; ++x) sums[x] += weight * row[x];
  }
  for (int64_t x = 0; x < bytes; ++x) out[x] = to_byte(sums[x]);
}

#ifdef __AVX2__

// Sums of products with the upper and with the lower halves of weights.
struct SplitSums {
  __m256i upper = _mm256_setzero_si256();
  __m256i lower = _mm256_setzero_si256();

  // values: 16 bits each, in pairs that are added.
  void add(__m256i values, __m256i upper_weights, __m256i lower_weights) {
    upper = _mm256_add_epi32(upper, _mm256_madd_epi16(values, upper_weights));
    lower = _mm256_add_epi32(lower, _mm256_madd_epi16(values, lower_weights));
  }
  __m256i joined() const { return _mm256_add_epi32(_mm256_slli_epi32(upper, kLowerBits), lower); }
};

// Two weights in every 32 bits.
__m256i pair_of(int32_t first, int32_t second) {
  return _mm256_set1_epi32((first & 0xFFFF) | second << 16);
}

// Pixels 0 and 1 (lower half) and 2 and 3 (upper half) of 12 bytes: r0 r1 g0 g1 b0 b1 0 0.
__m256i paired_channels(const uint8_t* pixels) {
  const __m256i bytes =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(pixels)));
  const __m256i places =
      _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, 6, -1, 9, -1, 7,
                       -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
  return _mm256_shuffle_epi8(bytes, places);
}

// Red, green, blue, 0: rounded, not yet clamped.
__m128i finished(const SplitSums& sums) {
  const __m256i joined = sums.joined();
  const __m128i pixel =
      _mm_add_epi32(_mm256_castsi256_si128(joined), _mm256_extracti128_si256(joined, 1));
  return _mm_srai_epi32(_mm_add_epi32(pixel, _mm_set1_epi32(kHalf)), kWeightFractionBits);
}

// 16 bytes of two rows, as 16-bit pairs: the first 8 and the last 8.
void add_row_pair(__m128i first, __m128i second, __m256i upper, __m256i lower, SplitSums* sums) {
  sums[0].add(_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(first, second)), upper, lower);
  sums[1].add(_mm256_cvtepu8_epi16(_mm_unpackhi_epi8(first, second)), upper, lower);
}

// 16 sums, rounded and clamped.
__m128i to_bytes(const SplitSums* sums) {
  const auto rounded = [](const SplitSums& each) {
    return _mm256_srai_epi32(_mm256_add_epi32(each.joined(), _mm256_set1_epi32(kHalf)),
                             kWeightFractionBits);
  };
  // Packing goes by halves of the vectors; the middle quarters have to be exchanged.
  const __m256i words = _mm256_permute4x64_epi64(
      _mm256_packs_epi32(rounded(sums[0]), rounded(sums[1])), 0b11'01'10'00);
  return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

// Bytes [0, 32) of the rows.
void combine_bytes(const std::vector<const uint8_t*>& rows, int64_t at, const int32_t* weights,
                   uint8_t* out) {
  const auto load = [at](const uint8_t* row, int64_t half) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + at + 16 * half));
  };
  SplitSums sums[4];
  for (size_t i = 0; i < rows.size(); i += 2) {
    const bool is_pair = i + 1 < rows.size();
    const int32_t first = weights[i], second = is_pair ? weights[i + 1] : 0;
    const __m256i upper = pair_of(upper_half(first), upper_half(second));
    const __m256i lower = pair_of(lower_half(first), lower_half(second));
    const uint8_t* other = rows[is_pair ? i + 1 : i];
    add_row_pair(load(rows[i], 0), load(other, 0), upper, lower, sums);
    add_row_pair(load(rows[i], 1), load(other, 1), upper, lower, sums + 2);
  }
  auto* bytes = reinterpret_cast<__m128i*>(out + at);
  _mm_storeu_si128(bytes, to_bytes(sums));
  _mm_storeu_si128(bytes + 1, to_bytes(sums + 2));
}

#endif

}  // namespace

int64_t AxisWeights::longest() const {
  int64_t longest = 0;
  for (const Window& window : windows) longest = std::max(longest, window.count);
  return longest;
}

void AxisWeights::shift_to_begin() {
  const int64_t first = begin();
  for (Window& window : windows) window.begin -= first;
}

HorizontalPass::HorizontalPass(AxisWeights across, ResizeCode code) : across_(std::move(across)) {
  if (!kHasVectors || code == ResizeCode::kScalar) return;
  groups_ = (across_.longest() + 3) / 4;
  packed_.resize(across_.windows.size() * static_cast<size_t>(8 * groups_));
  int16_t* packed = packed_.data();
  for (size_t x = 0; x < across_.windows.size(); ++x) {
    const int32_t* weights = &across_.weights[x * static_cast<size_t>(across_.stride)];
    for (int64_t i = 0; i < across_.windows[x].count; ++i) {
      int16_t* group = packed + 8 * (i / 4) + i % 4;
      group[0] = static_cast<int16_t>(upper_half(weights[i]));
      group[4] = static_cast<int16_t>(lower_half(weights[i]));
    }
    packed += 8 * groups_;
  }
}

void HorizontalPass::run(std::array<const uint8_t*, kRows> rows, int64_t count,
                         std::array<uint8_t*, kRows> out) const {
  if (packed_.empty()) {
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) resize_row(rows[i], across_, out[i]);
    return;
  }
  for (size_t i = static_cast<size_t>(count); i < kRows; ++i)  // the last one again
    rows[i] = rows[i - 1], out[i] = out[i - 1];
  run_vectors(rows, out);
}

void VerticalPass::run(const std::vector<const uint8_t*>& rows, const int32_t* weights,
                       int64_t bytes, uint8_t* out) {
#ifdef __AVX2__
  if (code_ == ResizeCode::kFastest) {
    for (int64_t at = 0; at < bytes; at += 32) combine_bytes(rows, at, weights, out);
    return;
  }
#endif
  sums_.resize(static_cast<size_t>(bytes));
  combine_rows(rows, weights, bytes, sums_.data(), out);
}

#ifdef __AVX2__
void HorizontalPass::run_vectors(const std::array<const uint8_t*, kRows>& rows,
                                 const std::array<uint8_t*, kRows>& out) const {
  // Of eight 16-bit weights (4 upper, 4 lower halves) those of pixels 0 and 1 for three channels,
  // and of 2 and 3.
  const __m256i uppers = _mm256_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, -1, -1, -1, -1,  //
                                          4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, -1, -1, -1, -1);
  const __m256i lowers =
      _mm256_setr_epi8(8, 9, 10, 11, 8, 9, 10, 11, 8, 9, 10, 11, -1, -1, -1, -1,  //
                       12, 13, 14, 15, 12, 13, 14, 15, 12, 13, 14, 15, -1, -1, -1, -1);
  const int16_t* packed = packed_.data();
  for (size_t x = 0; x < across_.windows.size(); ++x, packed += 8 * groups_) {
    const auto [begin, count] = across_.windows[x];
    SplitSums sums[kRows];
    int64_t at = 3 * begin;
    const int16_t* group = packed;
    for (int64_t i = 0; i < count; i += 4, at += 12, group += 8) {
      const __m256i weights =
          _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(group)));
      const __m256i upper = _mm256_shuffle_epi8(weights, uppers);
      const __m256i lower = _mm256_shuffle_epi8(weights, lowers);
      for (size_t r = 0; r < kRows; ++r) sums[r].add(paired_channels(rows[r] + at), upper, lower);
    }
    const __m128i pixels = _mm_packus_epi16(_mm_packs_epi32(finished(sums[0]), finished(sums[1])),
                                            _mm_packs_epi32(finished(sums[2]), finished(sums[3])));
    alignas(16) uint8_t bytes[16];
    _mm_store_si128(reinterpret_cast<__m128i*>(bytes), pixels);
    for (size_t r = 0; r < kRows; ++r) std::memcpy(out[r] + 3 * x, bytes + 4 * r, 4);
  }
}
#else
void HorizontalPass::run_vectors(const std::array<const uint8_t*, kRows>&,
                                 const std::array<uint8_t*, kRows>&) const {
  ASSERT(false, "compiled without vectors");
}
#endif

}  // namespace facet
