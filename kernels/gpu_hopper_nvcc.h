// gpu_hopper.h for nvcc: thin wrappers of PTX, and TMA's maps by the driver.
#pragma once

#include <cuda.h>

#include "kernels/gpu_nvcc.h"

namespace facet::gpu {

extern __shared__ __align__(1024) unsigned char gpu_tiles_in_shared_memory[];

class Tiles {
 public:
  template <typename T>
  GPU_DEVICE T* take(size_t count) {
    T* tile = reinterpret_cast<T*>(gpu_tiles_in_shared_memory + used_);
    used_ += (count * sizeof(T) + 1023) / 1024 * 1024;
    return tile;
  }

 private:
  size_t used_ = 0;
};

// ---- barriers

struct Barrier {
  uint64_t state;
};

GPU_DEVICE void init_barrier(Barrier& barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;"
               :
               : "r"(shared_address(&barrier)), "r"(arrivals)
               : "memory");
}
GPU_DEVICE void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" : : : "memory");
}
GPU_DEVICE void arrive(Barrier& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];"
               :
               : "r"(shared_address(&barrier))
               : "memory");
}
GPU_DEVICE void arrive_expecting(Barrier& barrier, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
               :
               : "r"(shared_address(&barrier)), "r"(bytes)
               : "memory");
}
GPU_DEVICE void wait_barrier(Barrier& barrier, unsigned parity) {
  uint32_t done = 0;
  while (!done)
    asm volatile(
        "{\n"
        ".reg .pred is_done;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 is_done, [%1], %2;\n"
        "selp.u32 %0, 1, 0, is_done;\n"
        "}"
        : "=r"(done)
        : "r"(shared_address(&barrier)), "r"(parity)
        : "memory");
}

// ---- blocks of a cluster

GPU_DEVICE unsigned block_in_cluster() {
  uint32_t block;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(block));
  return block;
}
GPU_DEVICE void sync_cluster() {
  asm volatile("barrier.cluster.arrive.release;" : : : "memory");
  asm volatile("barrier.cluster.wait.acquire;" : : : "memory");
}
// Without .release.cluster, for which nvcc places a fence of the whole GPU before each arrival:
// what was read from shared memory has been read by then.
GPU_DEVICE void arrive_in_cluster(Barrier& barrier, unsigned block) {
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
      "}"
      :
      : "r"(shared_address(&barrier)), "r"(block)
      : "memory");
}

GPU_DEVICE void fence_async_proxy() {
  asm volatile("fence.proxy.async.shared::cta;" : : : "memory");
}

// ---- what blocks add to the same memory, one after the other (await_count, release_count)

// Not in any order but that of the counts. Numbers below 2^-126 are 0 here.
GPU_DEVICE void add_pack_global(float* to, const Pack<float>& pack) {
#if __CUDACC_VER_MAJOR__ > 12 || __CUDACC_VER_MINOR__ >= 1
  asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(__cvta_generic_to_global(to)), "f"(pack.v[0]), "f"(pack.v[1]), "f"(pack.v[2]),
                 "f"(pack.v[3])
               : "memory");
#else
#pragma unroll
  for (int i = 0; i < Pack<float>::kSize; ++i)
    asm volatile("red.relaxed.gpu.global.add.f32 [%0], %1;"
                 :
                 : "l"(__cvta_generic_to_global(to + i)), "f"(pack.v[i])
                 : "memory");
#endif
}

// ---- TMA

using TensorMap = CUtensorMap;

template <typename T>
constexpr CUtensorMapDataType kMapType =
    std::is_same_v<T, bf16> ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;

// The driver's function, found without linking the driver. Null with a driver that has none.
inline auto encode_tiled_of_driver() {
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static const Encode the_function = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
    const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                               12000, cudaEnableDefault, &found);
#else
    const cudaError_t error =
        cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
    const bool is_there = error == cudaSuccess && found == cudaDriverEntryPointSuccess;
    return is_there ? reinterpret_cast<Encode>(function) : nullptr;
  }();
  return the_function;
}

// Boxes of box_rows x box_cols elements of x (rows, cols), whose rows are `stride` elements apart.
// What lies outside of x arrives as zeros.
template <typename T>
TensorMap make_tensor_map(const T* x, int64_t rows, int64_t cols, int64_t stride, int box_rows,
                          int box_cols, Swizzle swizzle = Swizzle::k128,
                          const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  static_assert(std::is_same_v<T, bf16> || std::is_same_v<T, f16>);
  const auto encode = encode_tiled_of_driver();
  if (!encode) fail_launch(file, line, "the driver has no cuTensorMapEncodeTiled");
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(cols), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(stride) * sizeof(T)};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(box_cols), static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[] = {1, 1};
  TensorMap map;
  const CUresult result =
      encode(&map, kMapType<T>, 2, const_cast<T*>(x), sizes, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE,
             swizzle == Swizzle::k128 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) fail_launch(file, line, "cuTensorMapEncodeTiled refuses a matrix");
  return map;
}

GPU_DEVICE void load_box(void* to, const TensorMap& map, Barrier& barrier, int col, int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4}], [%2];"
      :
      : "r"(shared_address(to)), "l"(&map), "r"(shared_address(&barrier)), "r"(col), "r"(row)
      : "memory");
}

GPU_DEVICE void load_box_to_cluster(void* to, const TensorMap& map, Barrier& barrier, int col,
                                    int row, unsigned blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;"
      :
      : "r"(shared_address(to)), "l"(&map), "r"(shared_address(&barrier)), "r"(col), "r"(row),
        "h"(static_cast<uint16_t>(blocks))
      : "memory");
}

// ---- products of a warpgroup

// The 128-byte swizzle, offsets in bytes.
GPU_DEVICE uint64_t matrix_descriptor(const void* begin, int leading_bytes, int stride_bytes) {
  const uint64_t address = shared_address(begin) & 0x3ffffu;
  return address >> 4 | static_cast<uint64_t>(leading_bytes >> 4) << 16 |
         static_cast<uint64_t>(stride_bytes >> 4) << 32 | uint64_t{1} << 62;
}

// Keeps the compiler from moving accesses to these registers across: products use them behind its
// back.
template <int kTiles>
GPU_DEVICE void settle(float (&d)[kTiles][4]) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
    asm volatile("" : "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3]) : : "memory");
}
template <int kTiles>
GPU_DEVICE void settle(uint32_t (&a)[kTiles][4]) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
    asm volatile("" : "+r"(a[n][0]), "+r"(a[n][1]), "+r"(a[n][2]), "+r"(a[n][3]) : : "memory");
}

// Before products that use these registers, unless the last access to them was a product's.
template <typename... Registers>
GPU_DEVICE void wgmma_fence(Registers&... registers) {
  (settle(registers), ...);
  asm volatile("wgmma.fence.sync.aligned;" : : : "memory");
}
GPU_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory"); }
// Waits for all groups but the last kPending; `registers` are those that are free from now on.
template <int kPending, typename... Registers>
GPU_DEVICE void wgmma_wait(Registers&... registers) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" : : "n"(kPending) : "memory");
  (settle(registers), ...);
}

// Accumulators as operands of asm, of 64, 128 and 256 columns, and their names in it.
#define FACET_4_OF_D(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define FACET_16_OF_D(n) \
  FACET_4_OF_D(n), FACET_4_OF_D(n + 1), FACET_4_OF_D(n + 2), FACET_4_OF_D(n + 3)
#define FACET_32_OF_D FACET_16_OF_D(0), FACET_16_OF_D(4)
#define FACET_64_OF_D FACET_32_OF_D, FACET_16_OF_D(8), FACET_16_OF_D(12)
#define FACET_128_OF_D \
  FACET_64_OF_D, FACET_16_OF_D(16), FACET_16_OF_D(20), FACET_16_OF_D(24), FACET_16_OF_D(28)
#define FACET_NAMES_OF_32                                                                      \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
  "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define FACET_NAMES_OF_64                                                                   \
  FACET_NAMES_OF_32                                                                         \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, " \
  "%49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define FACET_NAMES_OF_128                                                                     \
  FACET_NAMES_OF_64                                                                            \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, "    \
  "%81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, " \
  "%99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, "  \
  "%114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

// Products whose a is in shared memory; the operands that follow d by their names.
#define FACET_MULTIPLY_SHARED(type, columns, sums, names, a_name, b_name, adds_name, major_name,   \
                              of_a_name)                                                           \
  asm volatile(                                                                                    \
      "{\n"                                                                                        \
      ".reg .pred adds;\n"                                                                         \
      "setp.ne.b32 adds, " adds_name                                                               \
      ", 0;\n"                                                                                     \
      "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type " {" names "}, " a_name \
      ", " b_name ", adds, 1, 1, " of_a_name ", " major_name                                       \
      ";\n"                                                                                        \
      "}"                                                                                          \
      : sums                                                                                       \
      : "l"(a), "l"(b), "r"(static_cast<uint32_t>(adds)), "n"(kMajor == Major::kN ? 1 : 0),        \
        "n"(kMajorOfA == Major::kM ? 1 : 0)                                                        \
      : "memory")
#define FACET_MULTIPLY_64(type)                                                                   \
  FACET_MULTIPLY_SHARED(type, "64", FACET_32_OF_D, FACET_NAMES_OF_32, "%32", "%33", "%34", "%35", \
                        "%36")
#define FACET_MULTIPLY_128(type)                                                                   \
  FACET_MULTIPLY_SHARED(type, "128", FACET_64_OF_D, FACET_NAMES_OF_64, "%64", "%65", "%66", "%67", \
                        "%68")
#define FACET_MULTIPLY_256(type)                                                                 \
  FACET_MULTIPLY_SHARED(type, "256", FACET_128_OF_D, FACET_NAMES_OF_128, "%128", "%129", "%130", \
                        "%131", "%132")
#define FACET_MULTIPLY_REGISTERS(type)                                                        \
  asm volatile(                                                                               \
      "{\n"                                                                                   \
      ".reg .pred adds;\n"                                                                    \
      "setp.ne.b32 adds, %69, 0;\n"                                                           \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " {" FACET_NAMES_OF_64     \
      "}, {%64, %65, %66, %67}, %68, adds, 1, 1, %70;\n"                                      \
      "}"                                                                                     \
      : FACET_64_OF_D                                                                         \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<uint32_t>(adds)), \
        "n"(kMajor == Major::kN ? 1 : 0)                                                      \
      : "memory")

template <typename T>
constexpr bool kIsFactor = std::is_same_v<T, bf16> || std::is_same_v<T, f16>;

// d (64,N) = a b, plus d if `adds`, of N = 8 kTiles columns.
template <typename T, Major kMajor, Major kMajorOfA = Major::kK, int kTiles>
GPU_DEVICE void wgmma_m64k16(float (&d)[kTiles][4], uint64_t a, uint64_t b, bool adds) {
  static_assert(kIsFactor<T>);
  static_assert(kTiles == 8 || kTiles == 16 || kTiles == 32,
                "products of 64, 128 and 256 columns are written out; others want their macro");
  constexpr bool kBF16 = std::is_same_v<T, bf16>;
  if constexpr (kTiles == 8 && kBF16)
    FACET_MULTIPLY_64("bf16");
  else if constexpr (kTiles == 8)
    FACET_MULTIPLY_64("f16");
  else if constexpr (kTiles == 16 && kBF16)
    FACET_MULTIPLY_128("bf16");
  else if constexpr (kTiles == 16)
    FACET_MULTIPLY_128("f16");
  else if constexpr (kBF16)
    FACET_MULTIPLY_256("bf16");
  else
    FACET_MULTIPLY_256("f16");
}
// With a in registers, as fragments of mma_m16n8k16: each warp its 16 rows.
template <typename T, Major kMajor>
GPU_DEVICE void wgmma_m64k16(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b, bool adds) {
  static_assert(kIsFactor<T>);
  if constexpr (std::is_same_v<T, bf16>)
    FACET_MULTIPLY_REGISTERS("bf16");
  else
    FACET_MULTIPLY_REGISTERS("f16");
}
#undef FACET_MULTIPLY_64
#undef FACET_MULTIPLY_128
#undef FACET_MULTIPLY_256
#undef FACET_MULTIPLY_SHARED
#undef FACET_MULTIPLY_REGISTERS
#undef FACET_NAMES_OF_32
#undef FACET_NAMES_OF_64
#undef FACET_NAMES_OF_128
#undef FACET_4_OF_D
#undef FACET_16_OF_D
#undef FACET_32_OF_D
#undef FACET_64_OF_D
#undef FACET_128_OF_D

// ---- registers: what a thread of this warpgroup may use from now on, a multiple of 8

template <int kRegisters>
GPU_DEVICE void raise_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" : : "n"(kRegisters));
}
template <int kRegisters>
GPU_DEVICE void lower_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" : : "n"(kRegisters));
}

}  // namespace facet::gpu
