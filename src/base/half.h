// Conversion between fp32 and the two 16-bit formats, bf16 and fp16: of single numbers, and of
// arrays at memory speed. Conversion to 16 bits rounds to nearest, ties to even; what is too large
// becomes infinity; NaN stays NaN with its sign and its upper payload bits (quiet). Conversion to
// fp32 is exact.
#pragma once

#include <bit>
#include <cstdint>

#include "base/dtype.h"

namespace facet {

inline float float_from_bf16(uint16_t word) {
  return std::bit_cast<float>(static_cast<uint32_t>(word) << 16);
}

inline uint16_t bf16_from_float(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quiet_nan = (bits >> 16) | 0x40u;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded);
}

// No branches in these two, so that loops over them are vectorised; no subnormal fp32 numbers
// either, which a processor may be set to flush to zero.
inline float float_from_f16(uint16_t word) {
  constexpr uint32_t kBias = 112u << 23;      // difference of the exponent biases
  constexpr uint32_t kSmallest = 113u << 23;  // 2^-14, the smallest normal fp16 number
  const uint32_t magnitude = static_cast<uint32_t>(word & 0x7fffu) << 13;
  const uint32_t sign = static_cast<uint32_t>(word & 0x8000u) << 16;
  const uint32_t normal = magnitude + kBias;
  const uint32_t special = magnitude | 0x7f800000u;  // infinity and NaN
  // A subnormal number is (2^-14 + itself) - 2^-14.
  const uint32_t subnormal = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude + kSmallest) -
                                                     std::bit_cast<float>(kSmallest));
  const uint32_t finite = magnitude < 0x00800000u ? subnormal : normal;
  return std::bit_cast<float>(sign | (magnitude >= 0x0f800000u ? special : finite));
}

inline uint16_t f16_from_float(float value) {
  constexpr uint32_t kBias = 112u << 23;
  const uint32_t bits = std::bit_cast<uint32_t>(value), magnitude = bits & 0x7fffffffu;
  const uint32_t rounded = (magnitude - kBias + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const uint32_t normal = rounded > 0x7c00u ? 0x7c00u : rounded;
  // Below 2^-14: the last bit of a number near 1/2 has the same weight as that of a subnormal one.
  const uint32_t subnormal =
      std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t quiet_nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
  const uint32_t result = magnitude > 0x7f800000u ? quiet_nan : finite;
  return static_cast<uint16_t>(result | (bits >> 16 & 0x8000u));
}

// Of `dtype` kBF16 or kF16.
inline float float_from_16_bits(uint16_t word, DType dtype) {
  return dtype == DType::kBF16 ? float_from_bf16(word) : float_from_f16(word);
}
inline uint16_t round_to_16_bits(float value, DType dtype) {
  return dtype == DType::kBF16 ? bf16_from_float(value) : f16_from_float(value);
}

// Arrays; to and from must not overlap.
void widen(float* to, const uint16_t* from, int64_t count, DType dtype);
void round_to_16_bits(uint16_t* to, const float* from, int64_t count, DType dtype);

}  // namespace facet
