// gpu.h for nvcc: thin wrappers of CUDA, and the only place with PTX.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#define GPU_DEVICE __device__ __forceinline__
#define GPU_SHARED(type, name, ...) __shared__ type name __VA_ARGS__
#define GPU_SHARED_ALIGNED(alignment, type, name, ...) \
  __shared__ __align__(alignment)                      \
  type name __VA_ARGS__

namespace facet::gpu {

using bf16 = __nv_bfloat16;
using f16 = __half;

GPU_DEVICE float to_float(float x) { return x; }
GPU_DEVICE float to_float(bf16 x) { return __bfloat162float(x); }
GPU_DEVICE float to_float(f16 x) { return __half2float(x); }
template <typename T>
GPU_DEVICE T from_float(float x) {
  if constexpr (std::is_same_v<T, bf16>)
    return __float2bfloat16_rn(x);
  else if constexpr (std::is_same_v<T, f16>)
    return __float2half_rn(x);
  else
    return x;
}

template <typename T>
struct alignas(16) Pack {
  static constexpr int kSize = 16 / sizeof(T);
  T v[kSize];
};

template <typename T>
GPU_DEVICE Pack<T> load_pack(const T* from) {
  const uint4 raw = *reinterpret_cast<const uint4*>(from);
  Pack<T> pack;
  memcpy(static_cast<void*>(&pack), &raw, sizeof raw);
  return pack;
}
template <typename T>
GPU_DEVICE void store_pack(T* to, const Pack<T>& pack) {
  uint4 raw;
  memcpy(&raw, static_cast<const void*>(&pack), sizeof raw);
  *reinterpret_cast<uint4*>(to) = raw;
}
// To global memory. In PTX, as nvcc may split the store above where it packs the elements itself.
template <typename T>
GPU_DEVICE void store_pack_global(T* to, const Pack<T>& pack) {
  uint4 raw;
  memcpy(&raw, static_cast<const void*>(&pack), sizeof raw);
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(__cvta_generic_to_global(to)), "r"(raw.x), "r"(raw.y), "r"(raw.z), "r"(raw.w)
               : "memory");
}

// From global memory, where other blocks of the grid store: not from the multiprocessor's own
// cache.
GPU_DEVICE Pack<float> load_pack_global(const float* from) {
  Pack<float> pack;
  asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(pack.v[0]), "=f"(pack.v[1]), "=f"(pack.v[2]), "=f"(pack.v[3])
               : "l"(__cvta_generic_to_global(from))
               : "memory");
  return pack;
}

// By one thread: waits until the counter says `count`, and acquires what was before its release.
GPU_DEVICE void await_count(const int32_t* counter, int32_t count) {
  int32_t now = 0;
  do {
    asm volatile("ld.acquire.gpu.global.s32 %0, [%1];"
                 : "=r"(now)
                 : "l"(__cvta_generic_to_global(counter))
                 : "memory");
  } while (now != count);
}
// By one thread: what it did, and what it knows to be done by barriers, is before the count.
GPU_DEVICE void release_count(int32_t* counter, int32_t count) {
  asm volatile("st.release.gpu.global.s32 [%0], %1;"
               :
               : "l"(__cvta_generic_to_global(counter)), "r"(count)
               : "memory");
}

// Two neighbouring 16-bit elements as one register of a fragment, the first in the low half.
template <typename T>
GPU_DEVICE uint32_t pair_of(float first, float second) {
  static_assert(std::is_same_v<T, bf16> || std::is_same_v<T, f16>);
  uint32_t pair;
  if constexpr (std::is_same_v<T, bf16>) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(first, second);
    memcpy(&pair, static_cast<const void*>(&both), sizeof pair);
  } else {
    const __half2 both = __floats2half2_rn(first, second);
    memcpy(&pair, static_cast<const void*>(&both), sizeof pair);
  }
  return pair;
}
template <typename T>
GPU_DEVICE uint32_t load_pair(const T* from) {
  static_assert(sizeof(T) == 2);
  return *reinterpret_cast<const uint32_t*>(from);
}
template <typename T>
GPU_DEVICE void store_pair(T* to, uint32_t pair) {
  static_assert(sizeof(T) == 2);
  *reinterpret_cast<uint32_t*>(to) = pair;
}

extern __shared__ __align__(128) unsigned char gpu_dynamic_shared_memory[];

class SharedArrays {
 public:
  template <typename T>
  GPU_DEVICE T* take(size_t count) {
    T* array = reinterpret_cast<T*>(gpu_dynamic_shared_memory + used_);
    used_ += (count * sizeof(T) + 15) / 16 * 16;
    return array;
  }

 private:
  size_t used_ = 0;
};

GPU_DEVICE uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

GPU_DEVICE void cp_async_16(void* to, const void* from, int valid_bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(shared_address(to)), "l"(from), "r"(valid_bytes)
               : "memory");
}
GPU_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" : : : "memory"); }
template <int kPending>
GPU_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" : : "n"(kPending) : "memory");
}

// 2^x to about 22 bits; results below 2^-126 become 0.
GPU_DEVICE float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// 1/x of 1 <= x < 2^126, correctly rounded like the division, which has a branch for other x.
GPU_DEVICE float reciprocal_from_1(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return __fmaf_rn(y, __fmaf_rn(-x, y, 1.0f), y);
}

GPU_DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
GPU_DEVICE void ldmatrix_x4_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
GPU_DEVICE void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
GPU_DEVICE void ldmatrix_x2_transposed(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

// One text for both types; asm needs a literal.
#define FACET_MMA_M16N8K16(type)                                                              \
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                         \
               ".f32 "                                                                        \
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"          \
               : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])                               \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), \
                 "f"(c[1]), "f"(c[2]), "f"(c[3]))

template <typename T>
GPU_DEVICE void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                             const float (&c)[4]) {
  static_assert(std::is_same_v<T, bf16> || std::is_same_v<T, f16>);
  if constexpr (std::is_same_v<T, bf16>)
    FACET_MMA_M16N8K16("bf16");
  else
    FACET_MMA_M16N8K16("f16");
}
#undef FACET_MMA_M16N8K16

struct LaunchShape {
  dim3 grid, block;
  size_t shared_bytes = 0;
  unsigned cluster = 1;  // blocks that run at the same time, along x; Hopper's
  const char* file = __builtin_FILE();
  int line = __builtin_LINE();
};

// Throws facet::Error; in launch_error.cpp, since nvcc cannot compile fmt.
[[noreturn]] void fail_launch(const char* file, int line, const char* error);

inline void check_launch(cudaError_t error, const LaunchShape& shape) {
  if (error != cudaSuccess) fail_launch(shape.file, shape.line, cudaGetErrorString(error));
}

constexpr size_t kSharedBytesByDefault = 48 * 1024;  // more must be requested

template <typename... Parameters, typename... Arguments>
void launch(cudaStream_t stream, const LaunchShape& shape, void (*kernel)(Parameters...),
            Arguments... arguments) {
  if (shape.shared_bytes > kSharedBytesByDefault)
    check_launch(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                      cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(shape.shared_bytes)),
                 shape);
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  cudaLaunchAttribute cluster{};
  if (shape.cluster > 1) {
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {shape.cluster, 1, 1};
    config.attrs = &cluster;
    config.numAttrs = 1;
  }
  check_launch(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), shape);
}

}  // namespace facet::gpu
