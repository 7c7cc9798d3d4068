// gpu_hopper.h for a host compiler.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "emulated/device/tensor_map.h"
#include "emulated/kernels/bulk_copy.h"
#include "emulated/kernels/gpu_emulated.h"
#include "emulated/kernels/mbarrier.h"
#include "emulated/kernels/warpgroup.h"

namespace facet::gpu {

class Tiles {
 public:
  template <typename T>
  T* take(size_t count, FACET_HERE) {
    const size_t bytes = count * sizeof(T);
    void* tile = emulated::dynamic_shared_array(index_++, used_, bytes, where, 1024);
    used_ += (bytes + 1023) / 1024 * 1024;
    return static_cast<T*>(tile);
  }

 private:
  size_t used_ = 0, index_ = 0;
};

// ---- barriers

struct Barrier {
  uint64_t state;
};

inline void init_barrier(Barrier& barrier, unsigned arrivals, FACET_HERE) {
  emulated::init_mbarrier(&barrier, arrivals, where);
}
inline void fence_barrier_init() { emulated::publish_mbarriers(); }
inline void arrive(Barrier& barrier, FACET_HERE) {
  emulated::arrive_at_mbarrier(&barrier, 0, where);
}
inline void arrive_expecting(Barrier& barrier, unsigned bytes, FACET_HERE) {
  emulated::arrive_at_mbarrier(&barrier, bytes, where);
}
inline void wait_barrier(Barrier& barrier, unsigned parity, FACET_HERE) {
  emulated::wait_for_mbarrier(&barrier, parity, where);
}

// ---- blocks of a cluster

inline unsigned block_in_cluster() { return emulated::block_in_cluster(); }
inline void sync_cluster(FACET_HERE) { emulated::sync_cluster(where); }
inline void arrive_in_cluster(Barrier& barrier, unsigned block, FACET_HERE) {
  emulated::arrive_in_cluster(&barrier, block, where);
}

inline void fence_async_proxy() { emulated::fence_async_proxy(); }

// ---- what blocks add to the same memory, one after the other (await_count, release_count)

inline float without_subnormal(float x) {
  return std::abs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x;
}
FACET_NOT_RACE_CHECKED inline void add_pack_global(float* to, const Pack<float>& pack, FACET_HERE) {
  emulated::require_alignment(to, sizeof pack, "the destination of a 16-byte sum", where);
  emulated::note_access(to, sizeof pack, emulated::Access::kRead, where);
  emulated::note_access(to, sizeof pack, emulated::Access::kWrite, where);
  for (int i = 0; i < Pack<float>::kSize; ++i)
    to[i] = without_subnormal(without_subnormal(to[i]) + without_subnormal(pack.v[i]));
}

// ---- TMA

using TensorMap = CUtensorMap;

template <typename T>
TensorMap make_tensor_map(const T* x, int64_t rows, int64_t cols, int64_t stride, int box_rows,
                          int box_cols, Swizzle swizzle = Swizzle::k128, FACET_HERE) {
  static_assert(std::is_same_v<T, bf16> || std::is_same_v<T, f16>);
  const uint64_t sizes[] = {static_cast<uint64_t>(cols), static_cast<uint64_t>(rows)};
  const uint64_t strides[] = {static_cast<uint64_t>(stride) * sizeof(T)};
  const uint32_t box[] = {static_cast<uint32_t>(box_cols), static_cast<uint32_t>(box_rows)};
  const uint32_t steps[] = {1, 1};
  TensorMap map;
  cuTensorMapEncodeTiled(
      &map,
      std::is_same_v<T, bf16> ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
      2, const_cast<T*>(x), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      swizzle == Swizzle::k128 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE, where);
  return map;
}

inline void load_box(void* to, const TensorMap& map, Barrier& barrier, int col, int row,
                     FACET_HERE) {
  emulated::start_bulk_copy(to, map, &barrier, col, row, 1u << emulated::block_in_cluster(), where);
}

inline void load_box_to_cluster(void* to, const TensorMap& map, Barrier& barrier, int col, int row,
                                unsigned blocks, FACET_HERE) {
  emulated::start_bulk_copy(to, map, &barrier, col, row, blocks, where);
}

// ---- products of a warpgroup

inline uint64_t matrix_descriptor(const void* begin, int leading_bytes, int stride_bytes,
                                  FACET_HERE) {
  return emulated::matrix_descriptor(begin, leading_bytes, stride_bytes, where);
}

template <typename... Registers>
void wgmma_fence(Registers&...) {
  emulated::wgmma_fence();
}
inline void wgmma_commit(FACET_HERE) { emulated::wgmma_commit(where); }
template <int kPending, typename... Registers>
void wgmma_wait(Registers&...) {
  emulated::wgmma_wait(kPending);
}

template <typename T>
constexpr emulated::Half half_of_wgmma() {
  static_assert(std::is_same_v<T, bf16> || std::is_same_v<T, f16>);
  return std::is_same_v<T, bf16> ? emulated::Half::kBF16 : emulated::Half::kF16;
}
template <typename T, Major kMajor, Major kMajorOfA = Major::kK, int kTiles>
void wgmma_m64k16(float (&d)[kTiles][4], uint64_t a, uint64_t b, bool adds, FACET_HERE) {
  static_assert(kTiles <= 32, "a product has 8 to 256 columns");
  emulated::wgmma(
      {half_of_wgmma<T>(), 8 * kTiles, kMajor == Major::kN, adds, kMajorOfA == Major::kM}, d[0], a,
      b, where);
}
template <typename T, Major kMajor, int kTiles>
void wgmma_m64k16(float (&d)[kTiles][4], const uint32_t (&a)[4], uint64_t b, bool adds,
                  FACET_HERE) {
  static_assert(kTiles <= 32, "a product has 8 to 256 columns");
  emulated::wgmma({half_of_wgmma<T>(), 8 * kTiles, kMajor == Major::kN, adds}, d[0], a, b, where);
}

template <int kRegisters>
void raise_registers(FACET_HERE) {
  emulated::set_registers(kRegisters, emulated::Registers::kRaise, where);
}
template <int kRegisters>
void lower_registers(FACET_HERE) {
  emulated::set_registers(kRegisters, emulated::Registers::kLower, where);
}

}  // namespace facet::gpu
