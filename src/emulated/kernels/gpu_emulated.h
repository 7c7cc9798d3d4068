// gpu.h for a host compiler: the kernel is ordinary C++ that the executor runs thread by thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <tuple>
#include <vector>

#include "base/half.h"
#include "emulated/device/cuda_runtime.h"
#include "emulated/kernels/access.h"
#include "emulated/kernels/atomics.h"
#include "emulated/kernels/builtins.h"
#include "emulated/kernels/counter.h"
#include "emulated/kernels/cp_async.h"
#include "emulated/kernels/math.h"
#include "emulated/kernels/shared_memory.h"
#include "emulated/kernels/tensor_core.h"
#include "emulated/kernels/warp.h"

#define GPU_DEVICE inline

#define GPU_SHARED_ALIGNED(alignment, type, name, ...) \
  using name##_type = type __VA_ARGS__;                \
  static facet::emulated::SharedSlot name##_slot;      \
  auto& name = *static_cast<name##_type*>(             \
      facet::emulated::static_shared_array(name##_slot, sizeof(name##_type), alignment))
#define GPU_SHARED(type, name, ...) GPU_SHARED_ALIGNED(alignof(type), type, name, __VA_ARGS__)

namespace facet::gpu {

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

inline float to_float(float x) { return x; }
inline float to_float(bf16 x) { return float_from_bf16(x.bits); }
inline float to_float(f16 x) { return float_from_f16(x.bits); }
template <typename T>
T from_float(float x);
template <>
inline float from_float<float>(float x) {
  return x;
}
template <>
inline bf16 from_float<bf16>(float x) {
  return {bf16_from_float(x)};
}
template <>
inline f16 from_float<f16>(float x) {
  return {f16_from_float(x)};
}

template <typename T>
struct alignas(16) Pack {
  static constexpr int kSize = 16 / sizeof(T);
  T v[kSize];
};

template <typename T>
FACET_NOT_RACE_CHECKED Pack<T> load_pack(const T* from, FACET_HERE) {
  emulated::require_alignment(from, sizeof(Pack<T>), "the source of a 16-byte load", where);
  emulated::note_access(from, sizeof(Pack<T>), emulated::Access::kRead, where);
  Pack<T> pack;
  std::memcpy(&pack, from, sizeof pack);
  return pack;
}
template <typename T>
FACET_NOT_RACE_CHECKED void store_pack(T* to, const Pack<T>& pack, FACET_HERE) {
  emulated::require_alignment(to, sizeof(Pack<T>), "the destination of a 16-byte store", where);
  emulated::note_access(to, sizeof(Pack<T>), emulated::Access::kWrite, where);
  std::memcpy(to, &pack, sizeof pack);
}
template <typename T>
FACET_NOT_RACE_CHECKED void store_pack_global(T* to, const Pack<T>& pack, FACET_HERE) {
  store_pack(to, pack, where);
}

FACET_NOT_RACE_CHECKED inline Pack<float> load_pack_global(const float* from, FACET_HERE) {
  return load_pack(from, where);
}

inline void await_count(const int32_t* counter, int32_t count, FACET_HERE) {
  emulated::await_count(counter, count, where);
}
inline void release_count(int32_t* counter, int32_t count, FACET_HERE) {
  emulated::release_count(counter, count, where);
}

// Two neighbouring 16-bit elements as one register of a fragment, the first in the low half.
template <typename T>
uint32_t pair_of(float first, float second) {
  return uint32_t{from_float<T>(first).bits} | uint32_t{from_float<T>(second).bits} << 16;
}
template <typename T>
FACET_NOT_RACE_CHECKED uint32_t load_pair(const T* from, FACET_HERE) {
  static_assert(sizeof(T) == 2);
  emulated::require_alignment(from, 4, "the source of a 4-byte load", where);
  emulated::note_access(from, 4, emulated::Access::kRead, where);
  uint32_t pair;
  std::memcpy(&pair, from, sizeof pair);
  return pair;
}
template <typename T>
FACET_NOT_RACE_CHECKED void store_pair(T* to, uint32_t pair, FACET_HERE) {
  static_assert(sizeof(T) == 2);
  emulated::require_alignment(to, 4, "the destination of a 4-byte store", where);
  emulated::note_access(to, 4, emulated::Access::kWrite, where);
  std::memcpy(to, &pair, sizeof pair);
}

class SharedArrays {
 public:
  template <typename T>
  T* take(size_t count, FACET_HERE) {
    const size_t bytes = count * sizeof(T);
    void* array = emulated::dynamic_shared_array(index_++, used_, bytes, where);
    used_ += (bytes + 15) / 16 * 16;
    return static_cast<T*>(array);
  }

 private:
  size_t used_ = 0, index_ = 0;
};

inline void cp_async_16(void* to, const void* from, int valid_bytes = 16, FACET_HERE) {
  emulated::start_async_copy(to, from, 16, static_cast<size_t>(valid_bytes), where);
}
inline void cp_async_commit() { emulated::commit_async_copies(); }
template <int kPending>
void cp_async_wait() {
  emulated::wait_async_copies(kPending);
}

inline float fast_exp2(float x) { return std::exp2(x); }
// A GPU's result is wrong outside the range.
inline float reciprocal_from_1(float x) {
  return x >= 1 && x < 0x1p126f ? 1.0f / x : std::numeric_limits<float>::quiet_NaN();
}

inline void ldmatrix_x4(uint32_t (&r)[4], const void* row, FACET_HERE) {
  emulated::load_matrices(r, 4, emulated::Transposed::kNo, row, where);
}
inline void ldmatrix_x4_transposed(uint32_t (&r)[4], const void* row, FACET_HERE) {
  emulated::load_matrices(r, 4, emulated::Transposed::kYes, row, where);
}
inline void ldmatrix_x2(uint32_t (&r)[2], const void* row, FACET_HERE) {
  emulated::load_matrices(r, 2, emulated::Transposed::kNo, row, where);
}
inline void ldmatrix_x2_transposed(uint32_t (&r)[2], const void* row, FACET_HERE) {
  emulated::load_matrices(r, 2, emulated::Transposed::kYes, row, where);
}

template <typename T>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                  const float (&c)[4], FACET_HERE) {
  static_assert(std::is_same_v<T, bf16> || std::is_same_v<T, f16>);
  constexpr auto kType = std::is_same_v<T, bf16> ? emulated::Half::kBF16 : emulated::Half::kF16;
  emulated::mma_m16n8k16(kType, d, a, b, c, where);
}

struct LaunchShape {
  dim3 grid, block;
  size_t shared_bytes = 0;
  unsigned cluster = 1;
  emulated::Site where = emulated::Site::current();
};

}  // namespace facet::gpu

namespace facet::emulated {

// Queues the grid; `pointers` are the arguments that must point into device memory.
void launch(cudaStream_t stream, const gpu::LaunchShape& shape, std::function<void()> thread_body,
            std::vector<const void*> pointers);

// A pointer, or the `data` of a view; null for everything else.
template <typename T>
const void* device_pointer_in(const T& argument) {
  if constexpr (std::is_pointer_v<T>)
    return argument;
  else if constexpr (requires { static_cast<const void*>(argument.data); })
    return argument.data;
  else
    return nullptr;
}

}  // namespace facet::emulated

namespace facet::gpu {

template <typename... Parameters, typename... Arguments>
void launch(cudaStream_t stream, const LaunchShape& shape, void (*kernel)(Parameters...),
            Arguments... arguments) {
  const std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
  emulated::launch(
      stream, shape, [=] { std::apply(kernel, values); },
      std::apply(
          [](const auto&... value) {
            return std::vector<const void*>{emulated::device_pointer_in(value)...};
          },
          values));
}

}  // namespace facet::gpu
