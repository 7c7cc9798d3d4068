// Vectors of fp32 for kernels that are compiled for the baseline (8 lanes) and for AVX-512 (16) and
// chosen at run time: templates over the vector type, and one function with FACET_AVX512 that calls
// them with Vector16. Weights that are kept in 16 bits are widened as they are loaded.
#pragma once

#include <cstdint>

#include "base/half.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace facet {

#define FACET_INLINE inline __attribute__((always_inline))
// The checked build uses the baseline, so that both get tested on a machine with AVX-512.
#if defined(__x86_64__) && !defined(FACET_CHECKED)
#define FACET_AVX512 __attribute__((target("arch=x86-64-v4")))
#endif

typedef float Vector8 __attribute__((vector_size(32)));
typedef float Vector16 __attribute__((vector_size(64)));

// Integers of the shape of a vector, and the type of one that lies anywhere in memory.
template <typename V>
struct VectorTypes;
template <>
struct VectorTypes<Vector8> {
  typedef uint32_t Integer __attribute__((vector_size(32)));
  typedef float Unaligned __attribute__((vector_size(32), aligned(4), may_alias));
  typedef uint16_t Words __attribute__((vector_size(16), aligned(2), may_alias));
};
template <>
struct VectorTypes<Vector16> {
  typedef uint32_t Integer __attribute__((vector_size(64)));
  typedef float Unaligned __attribute__((vector_size(64), aligned(4), may_alias));
  typedef uint16_t Words __attribute__((vector_size(32), aligned(2), may_alias));
};
template <typename V>
using Unaligned = typename VectorTypes<V>::Unaligned;  // `auto` would forget the alignment
template <typename V>
constexpr int kWidth = sizeof(V) / sizeof(float);

template <typename V>
FACET_INLINE Unaligned<V>& at(float* p) {
  return *reinterpret_cast<Unaligned<V>*>(p);
}
template <typename V>
FACET_INLINE const Unaligned<V>& at(const float* p) {
  return *reinterpret_cast<const Unaligned<V>*>(p);
}

// Words in memory of one of the two 16-bit formats.
struct Bf16 {
  uint16_t word;
};
struct F16 {
  uint16_t word;
};
FACET_INLINE float widened(float x) { return x; }
FACET_INLINE float widened(Bf16 x) { return float_from_bf16(x.word); }
FACET_INLINE float widened(F16 x) { return float_from_f16(x.word); }

// GCC 12 widens 16 words in halves where it is not told the instruction. The intrinsics cannot be
// inlined into templates that are compiled for the baseline until they are used; what they call
// can, but GCC then warns of calls that never happen.
#if defined(FACET_AVX512) && !defined(__clang__)
#define FACET_WIDENS_16
typedef int16_t SignedWords16 __attribute__((vector_size(32)));
typedef int32_t Signed16 __attribute__((vector_size(64)));
constexpr uint16_t kAllLanes = 0xffff;
constexpr int kPresentRounding = 4;
#endif

// body(zero) with a number of the type that stands for `dtype`: fp32, bf16 or fp16.
template <typename Body>
void with_type(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kBF16: return body(Bf16());
    case DType::kF16: return body(F16());
    default: return body(float());
  }
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpsabi"
// to = kWidth<V> numbers from p on.
template <typename V>
FACET_INLINE void load(V& to, const float* p) {
  to = at<V>(p);
}
template <typename V>
FACET_INLINE void load(V& to, const Bf16* p) {
  using Types = VectorTypes<V>;
  const typename Types::Words& words = *reinterpret_cast<const typename Types::Words*>(p);
#if defined(FACET_WIDENS_16)
  if constexpr (kWidth<V> == 16) {
    to = reinterpret_cast<V>(__builtin_ia32_pmovzxwd512_mask(reinterpret_cast<SignedWords16>(words),
                                                             Signed16{}, kAllLanes)
                             << 16);
    return;
  }
#endif
  to = reinterpret_cast<V>(__builtin_convertvector(words, typename Types::Integer) << 16);
}
template <typename V>
FACET_INLINE void load(V& to, const F16* p) {
  using Types = VectorTypes<V>;
  const typename Types::Words& words = *reinterpret_cast<const typename Types::Words*>(p);
#if defined(FACET_WIDENS_16)
  if constexpr (kWidth<V> == 16) {
    to = __builtin_ia32_vcvtph2ps512_mask(reinterpret_cast<SignedWords16>(words), V{}, kAllLanes,
                                          kPresentRounding);
    return;
  }
#endif
#if defined(__F16C__)
  if constexpr (kWidth<V> == 8) {
    to = _mm256_cvtph_ps(reinterpret_cast<__m128i>(words));
    return;
  }
#endif
  for (int i = 0; i < kWidth<V>; ++i) to[i] = float_from_f16(words[i]);
}
#pragma GCC diagnostic pop

// Reduces all lanes pairwise, in halves.
template <typename V, typename Combine>
FACET_INLINE float reduce(const V& x, const Combine& combine) {
  float lanes[kWidth<V>];
  at<V>(lanes) = x;
#pragma GCC unroll 4
  for (int width = kWidth<V> / 2; width > 0; width /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < width; ++i) lanes[i] = combine(lanes[i], lanes[i + width]);
  return lanes[0];
}

#if defined(FACET_AVX512)
inline const bool kHasAvx512 = [] {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd") &&
         __builtin_cpu_supports("avx512vl");
}();
#else
constexpr bool kHasAvx512 = false;
#endif

}  // namespace facet
