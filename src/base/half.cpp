#include "base/half.h"

#include "base/check.h"

namespace facet {

void widen(float* to, const uint16_t* from, int64_t count, DType dtype) {
  ASSERT(is_16_bit(dtype), "{} is not a 16-bit type", name_of(dtype));
  if (dtype == DType::kBF16) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) to[i] = float_from_bf16(from[i]);
  } else {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) to[i] = float_from_f16(from[i]);
  }
}

void round_to_16_bits(uint16_t* to, const float* from, int64_t count, DType dtype) {
  ASSERT(is_16_bit(dtype), "{} is not a 16-bit type", name_of(dtype));
  if (dtype == DType::kBF16) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) to[i] = bf16_from_float(from[i]);
  } else {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) to[i] = f16_from_float(from[i]);
  }
}

}  // namespace facet
