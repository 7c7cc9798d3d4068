// What kernels for Hopper (compute capability 9.0, compiled for sm_90a) use beside gpu.h: warpgroup
// products, barriers in shared memory, and copies of boxes of a matrix by the tensor memory
// accelerator (TMA). Through it nvcc reads PTX, and g++ the emulation, which checks PTX's rules.
//
//   gpu::Tiles tiles;                          dynamic shared memory, piece by piece, each on a
//   T* tile = tiles.take<T>(n);                1024-byte boundary
//   gpu::make_tensor_map(x, rows, cols, ..)    on the host; a kernel takes it as
//                                              const __grid_constant__ gpu::TensorMap
//   gpu::load_box(to, map, barrier, col, row)  a box arrives in shared memory; its bytes count at
//                                              the barrier
//   gpu::Barrier                               init_barrier, fence_barrier_init, arrive,
//                                              arrive_expecting(bytes), wait_barrier(parity)
//   gpu::launch(.., {.., .cluster = n}, ..)    n blocks along x run at the same time: a cluster
//   gpu::block_in_cluster(), sync_cluster()    the number of the block; a barrier of all threads
//   gpu::arrive_in_cluster(barrier, block)     at the barrier that lies there where this one is
//   gpu::load_box_to_cluster(.., blocks)       a box arrives in each block of the mask, where `to`
//                                              and the barrier lie there
//   gpu::fence_async_proxy()                   after stores to shared memory that products read
//   gpu::wgmma_fence, wgmma_m64k16, wgmma_commit, wgmma_wait
//                                              D (64,N) += A (64,16) B (16,N) by a warpgroup
//   gpu::raise_registers<n>(), lower_registers<n>()
//   gpu::add_pack_global(to, four)             adds to four floats of device memory, in turns
//                                              (gpu::await_count)
//
// Tiles that products read hold rows of 128 bytes in the order of the 128-byte swizzle: of the
// eight 16-byte chunks of row r, chunk c lies at place c ^ (r % 8). Wider matrices are several such
// tiles side by side.
//
// Blocks of a cluster may use each other's barriers after a sync_cluster() since they were
// initialised; no block may end before it has waited for the last arrival and box that others send
// it. Arrivals in another block order what was done in shared memory, not in device memory.
//
// A warpgroup is 128 threads from a multiple of 128 on. The lane of a warp that says (by arrive)
// that products have read a tile must be lane 0, or all lanes have met since.
#pragma once

#include "kernels/gpu.h"

namespace facet::gpu {

// How boxes arrive in shared memory.
enum class Swizzle : uint8_t { kNone, k128 };

// Whether the rows of B's tile are columns of B (16,N), 16 of whose elements take part, or rows.
// Of A (64,16): kK, the rows of its tile are rows of A; kM, columns.
enum class Major : uint8_t { kK, kN, kM };

}  // namespace facet::gpu

#if defined(__CUDACC__)
#include "kernels/gpu_hopper_nvcc.h"
#else
#include "emulated/kernels/gpu_hopper_emulated.h"
#endif

namespace facet::gpu {

constexpr int kWarpgroupSize = 128;
constexpr int kSwizzledBytes = 128;                 // of a row of a tile
constexpr int kTileAlignment = 8 * kSwizzledBytes;  // the swizzle's period

// Where chunk `chunk` of 16 bytes of row `row` lies in a swizzled tile, in elements of T.
template <typename T>
GPU_DEVICE int swizzled_place(int row, int chunk) {
  constexpr int kChunk = 16 / int{sizeof(T)};
  return row * (kSwizzledBytes / int{sizeof(T)}) + (chunk ^ row % 8) * kChunk;
}

// Operand A, or B with Major::kK: 16 columns from one on, a multiple of 16, of a swizzled tile.
template <typename T>
GPU_DEVICE uint64_t operand_of_columns(const T* tile, int column) {
  constexpr int kUnused = 16;  // as PTX wants it
  return matrix_descriptor(tile + column, kUnused, kTileAlignment);
}
// Operand B with Major::kN, or A with Major::kM: 16 rows from `row` on, a multiple of 16, of
// swizzled tiles side by side, `tile_bytes` apart.
template <typename T>
GPU_DEVICE uint64_t operand_of_rows(const T* tiles, int row, int tile_bytes) {
  return matrix_descriptor(tiles + row * (kSwizzledBytes / int{sizeof(T)}), tile_bytes,
                           kTileAlignment);
}

// The operand `bytes` further on, a multiple of 16: cheaper than another descriptor.
GPU_DEVICE uint64_t shifted(uint64_t operand, int bytes) {
  constexpr uint64_t kLow = 0xffffffff;
  return (operand & ~kLow) | ((operand + static_cast<uint64_t>(bytes / 16)) & kLow);
}

}  // namespace facet::gpu
