// The only header a kernel includes. Through it nvcc reads CUDA, and g++ the emulation in
// src/emulated/kernels, which runs the same .cu file thread by thread on the CPU and checks CUDA's
// rules while it does.
//
// Kernels are written in plain CUDA (threadIdx, __syncthreads, __shfl_xor_sync, atomicAdd) with
// these exceptions:
//   GPU_SHARED(float, partial_W, [32]);       a shared array; the bare keyword does not compile
//   gpu::SharedArrays arrays;                 the dynamic shared memory of the launch, piece by
//   float* tile = arrays.take<float>(n);      piece, each on a 16-byte boundary
//   gpu::bf16, gpu::f16, to_float, from_float<T>
//   gpu::load_pack, gpu::store_pack           16 bytes at once, from and to 16-byte boundaries
//   gpu::store_pack_global                    the same to global memory, never as several stores
//   gpu::load_pack_global                     the same from where other blocks of the grid store
//   gpu::await_count, release_count           blocks take turns at the same memory: who waits for a
//                                             count has everything before its release
//   gpu::pair_of, load_pair, store_pair       two 16-bit elements as a register of a fragment
//   gpu::cp_async_16, ldmatrix_x4, mma_m16n8k16, fast_exp2,  what CUDA has in PTX only
//   reciprocal_from_1
//   gpu::launch(stream, {.grid = .., .block = .., .shared_bytes = ..}, kernel, arguments...)
// Blocks of one grid are ordered by counts alone, not by fences: what else needs another block's
// result is another launch.
#pragma once

#if defined(__CUDACC__)
#include "kernels/gpu_nvcc.h"
#else
#include "emulated/kernels/gpu_emulated.h"
#endif

namespace facet::gpu {

constexpr int kWarpSize = 32;
constexpr unsigned kFullWarp = 0xffffffffu;

// Every lane gets combine() over the values of its warp, always in the same order.
template <typename T, typename Combine>
GPU_DEVICE T warp_reduce(T value, const Combine& combine) {
#pragma unroll
  for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2)
    value = combine(value, __shfl_xor_sync(kFullWarp, value, lanes));
  return value;
}

// Every thread gets combine() over the block of kThreads, a multiple of 32; all threads must call
// it. combine(x, neutral) is x.
template <int kThreads, typename T, typename Combine>
GPU_DEVICE T block_reduce(T value, T neutral, const Combine& combine) {
  constexpr int kWarps = kThreads / kWarpSize;
  static_assert(kThreads % kWarpSize == 0 && kWarps <= kWarpSize);
  GPU_SHARED(T, partial_W, [kWarps]);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  value = warp_reduce(value, combine);
  __syncthreads();  // all threads have read the previous result
  if (lane == 0) partial_W[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  return warp_reduce(lane < kWarps ? partial_W[lane] : neutral, combine);
}

struct Sum {
  template <typename T>
  GPU_DEVICE T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  GPU_DEVICE float operator()(float a, float b) const { return fmaxf(a, b); }
};

template <typename T>
GPU_DEVICE T warp_sum(T value) {
  return warp_reduce(value, Sum());
}
template <int kThreads, typename T>
GPU_DEVICE T block_sum(T value) {
  return block_reduce<kThreads>(value, T(0), Sum());
}
template <int kThreads>
GPU_DEVICE float block_max(float value) {
  return block_reduce<kThreads>(value, -INFINITY, Max());
}

}  // namespace facet::gpu
