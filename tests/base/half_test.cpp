// Conversions between fp32 and the 16-bit formats, against rules written down in double arithmetic:
// every 16-bit word, and every place where rounding can go wrong.
#include "base/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace facet {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Format {
  DType dtype;
  int exponent_bits, mantissa_bits;

  uint16_t infinity() const {
    return static_cast<uint16_t>(((1 << exponent_bits) - 1) << mantissa_bits);
  }
};

// The value of a word that is not NaN, by the definition of the formats.
double value_of(const Format& format, uint32_t word) {
  const int exponent = static_cast<int>((word & 0x7fff) >> format.mantissa_bits);
  const int mantissa = static_cast<int>(word & ((1u << format.mantissa_bits) - 1));
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, 1 - bias - format.mantissa_bits)
                                         : std::ldexp(mantissa + (1 << format.mantissa_bits),
                                                      exponent - bias - format.mantissa_bits);
  return word & 0x8000 ? -magnitude : magnitude;
}

class Half : public testing::TestWithParam<Format> {
 protected:
  float up(uint16_t word) const { return float_from_16_bits(word, GetParam().dtype); }
  uint16_t down(float value) const { return round_to_16_bits(value, GetParam().dtype); }
};

TEST_P(Half, EveryWordGoesUpExactlyAndComesBack) {
  const Format format = GetParam();
  for (uint32_t w = 0; w < 65536; ++w) {
    const auto word = static_cast<uint16_t>(w);
    const float value = up(word);
    const uint16_t magnitude = word & 0x7fff;
    ASSERT_EQ(std::signbit(value), (word & 0x8000) != 0) << w;
    if (magnitude > format.infinity()) {
      ASSERT_TRUE(std::isnan(value)) << w;
      ASSERT_EQ(down(value), word | (1 << (format.mantissa_bits - 1))) << w;  // quiet
      continue;
    }
    if (magnitude == format.infinity())
      ASSERT_EQ(std::abs(value), kInfinity) << w;
    else
      ASSERT_EQ(static_cast<double>(value), value_of(format, word)) << w;
    ASSERT_EQ(down(value), word) << w;
  }
}

// Between neighbours: below the middle down, above it up, the middle to the even one. The last
// finite number's upper neighbour would be the next power of two: from their middle on, infinity.
TEST_P(Half, RoundsToTheNearestAndTiesToEven) {
  const Format format = GetParam();
  for (uint32_t w = 0; w < format.infinity(); ++w) {
    const double low = value_of(format, w), high = value_of(format, w + 1);
    const auto middle = static_cast<float>((low + high) / 2);
    ASSERT_EQ(static_cast<double>(middle), (low + high) / 2) << w;
    const uint32_t even = w % 2 == 0 ? w : w + 1;
    for (const uint32_t sign : {0u, 0x8000u}) {
      const float s = sign ? -1.0f : 1.0f;
      ASSERT_EQ(down(s * middle), sign | even) << w;
      ASSERT_EQ(down(s * std::nextafter(middle, 0.0f)), sign | w) << w;
      ASSERT_EQ(down(s * std::nextafter(middle, kInfinity)), sign | (w + 1)) << w;
    }
  }
}

TEST_P(Half, WhatIsTooLargeBecomesInfinityAndNanStaysNan) {
  const uint16_t infinity = GetParam().infinity();
  const float largest = std::numeric_limits<float>::max();
  EXPECT_EQ(down(kInfinity), infinity);
  EXPECT_EQ(down(-kInfinity), infinity | 0x8000);
  EXPECT_EQ(down(largest), infinity);
  EXPECT_EQ(down(-largest), infinity | 0x8000);
  for (const uint32_t bits : {0x7fc00000u, 0x7f800001u, 0x7fffffffu, 0xff800001u, 0xffc12345u}) {
    const uint16_t word = down(std::bit_cast<float>(bits));
    EXPECT_GT(word & 0x7fff, infinity) << bits;
    EXPECT_EQ(word & 0x8000, bits >> 16 & 0x8000) << bits;
  }
  EXPECT_EQ(down(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_EQ(down(-std::numeric_limits<float>::denorm_min()), 0x8000);
}

// The vectorised loops give the words of the single conversions, at every length.
TEST_P(Half, ArraysAreConvertedLikeSingleNumbers) {
  const DType dtype = GetParam().dtype;
  std::vector<float> values;
  for (uint32_t i = 0; i < 65536; ++i)  // all exponents, NaN and infinity too
    values.push_back(std::bit_cast<float>(i << 16 | (i * 40503u & 0xffff)));
  for (const size_t count : {size_t{1}, size_t{7}, size_t{97}, size_t{257}, values.size()}) {
    std::vector<uint16_t> words(count + 1, 0xabcd);
    round_to_16_bits(words.data(), values.data(), static_cast<int64_t>(count), dtype);
    for (size_t i = 0; i < count; ++i) ASSERT_EQ(words[i], down(values[i])) << i;
    EXPECT_EQ(words[count], 0xabcd);
    std::vector<float> wide(count + 1, 42.0f);
    widen(wide.data(), words.data(), static_cast<int64_t>(count), dtype);
    for (size_t i = 0; i < count; ++i)
      ASSERT_EQ(std::bit_cast<uint32_t>(wide[i]), std::bit_cast<uint32_t>(up(words[i]))) << i;
    EXPECT_EQ(wide[count], 42.0f);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Half,
                         testing::Values(Format{DType::kBF16, 8, 7}, Format{DType::kF16, 5, 10}),
                         [](const auto& info) { return std::string(name_of(info.param.dtype)); });

}  // namespace
}  // namespace facet
