#include "tests/kernels/planted_bugs.h"

#include "kernels/gpu.h"

namespace facet::kernel_test::bugs {
namespace {

GPU_DEVICE int thread() { return static_cast<int>(threadIdx.x); }

// ---- bounds

__global__ void global_read_past_end_kernel(float* y, const float* x) {
  y[thread()] = x[256 - 31 + thread()];
}
__global__ void global_write_past_end_kernel(float* y) {
  y[64 - 31 + thread()] = y[thread()] = 1.0f;
}
__global__ void global_write_before_kernel(float* y) { y[thread() - 1] = 1.0f; }
__global__ void shared_read_past_end_kernel(float* y) {
  GPU_SHARED(float, s, [32]);
  s[thread()] = 1.0f;
  __syncthreads();
  y[thread()] = s[thread() + static_cast<int>(gridDim.x)];
}
__global__ void shared_write_past_end_kernel(float* y) {
  GPU_SHARED(float, s, [32]);
  s[thread() + static_cast<int>(gridDim.x)] = 1.0f;
  __syncthreads();
  y[thread()] = s[31];
}
__global__ void dynamic_read_past_end_kernel(float* y) {
  gpu::SharedArrays arrays;
  float* a = arrays.take<float>(32);
  float* b = arrays.take<float>(32);
  a[thread()] = b[thread()] = 1.0f;
  __syncthreads();
  y[thread()] = a[thread() + 1];
}
__global__ void dynamic_sizes_disagree_kernel(float* y) {
  gpu::SharedArrays arrays;
  float* a = arrays.take<float>(threadIdx.x < 16 ? 32 : 16);
  a[thread() % 16] = y[thread()] = 1.0f;
}
#if defined(FACET_EMULATED)  // nvcc refuses it
__global__ void declared_shared_too_large_kernel(float* y) {
  GPU_SHARED(float, a, [8 * 1024]);
  GPU_SHARED(float, b, [4 * 1024 + 4]);
  a[thread()] = b[thread()] = y[thread()] = 1.0f;
}
#endif
__global__ void stack_too_deep_kernel(float* y, int n) {
  volatile float local[128 * 1024];
  for (int i = 0; i < n; i += 64) local[i] = 1.0f;
  y[thread()] = local[0];
}

// ---- order

__global__ void no_barrier_kernel(float* y) {
  GPU_SHARED(float, s, [64]);
  s[thread()] = 1.0f;
  y[thread()] = s[63 - thread()];
}
__global__ void no_second_barrier_kernel(float* y, const float* x) {
  GPU_SHARED(float, s, [64]);
  float sum = 0;
  for (int tile = 0; tile < 3; ++tile) {
    s[thread()] = x[tile * 64 + thread()];
    __syncthreads();
    sum += s[63 - thread()];
  }
  y[thread()] = sum;
}
__global__ void no_syncwarp_kernel(float* y) {
  GPU_SHARED(float, s, [32]);
  s[thread()] = 1.0f;
  y[thread()] = s[thread() ^ 1];
}
__global__ void syncwarp_of_the_wrong_half_kernel(float* y) {
  GPU_SHARED(float, s, [32]);
  const unsigned half = threadIdx.x < 16 ? 0x0000ffffu : 0xffff0000u;
  s[thread()] = 1.0f;
  __syncwarp(half);
  y[thread()] = s[31 - thread()];
}
__global__ void shuffle_taken_for_a_barrier_kernel(float* y) {
  GPU_SHARED(float, s, [32]);
  s[thread()] = 1.0f;
  const float sum = gpu::warp_sum(1.0f);
  y[thread()] = s[31 - thread()] + sum;
}
__global__ void counter_without_atomic_kernel(float* y) {
  GPU_SHARED(float, count, [1]);
  if (threadIdx.x == 0) count[0] = 0;
  __syncthreads();
  count[0] += 1.0f;
  __syncthreads();
  y[thread()] = count[0];
}
__global__ void blocks_write_one_place_kernel(float* y) {
  y[thread()] = static_cast<float>(blockIdx.x);
}
__global__ void block_reads_another_block_kernel(float* y) {
  const int block = static_cast<int>(blockIdx.x);
  y[(1 - block) * 32 + thread()] = block == 0 ? 1.0f : y[32 + thread()];
}
__global__ void sum_in_order_of_arrival_kernel(float* y) {
  GPU_SHARED(float, sum, [1]);
  if (threadIdx.x == 0) sum[0] = 0;
  __syncthreads();
  atomicAdd(&sum[0], 1.0f / static_cast<float>(thread() + 3));
  __syncthreads();
  y[thread()] = sum[0];
}

// ---- content

__global__ void shared_float_unwritten_kernel(float* y) {
  GPU_SHARED(float, s, [33]);
  s[thread()] = 1.0f;
  __syncthreads();
  y[thread()] = s[thread() + 1];
}
__global__ void shared_int_unwritten_kernel(float* y) {
  GPU_SHARED(int, s, [33]);
  s[thread()] = 1;
  __syncthreads();
  y[thread()] = s[thread() + 1] > 0 ? 1.0f : 0.0f;
}
__global__ void global_unwritten_kernel(float* y) { y[thread()] = y[thread() + 32] + 1.0f; }
__global__ void output_unwritten_kernel(float* y, int n) {
  if (thread() < n - 1) y[thread()] = 1.0f;
}
__global__ void signed_overflow_kernel(float* y, int n) {
  y[thread()] = static_cast<float>(n + thread());
}

// ---- barriers and warps

__global__ void divergent_barrier_kernel(float* y) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
  y[thread() % 32] = 1.0f;
}
__global__ void exit_before_barrier_kernel(float* y) {
  if (threadIdx.x == 5) return;
  __syncthreads();
  y[thread()] = 1.0f;
}
__global__ void barrier_against_shuffle_kernel(float* y) {
  if (threadIdx.x < 40) __syncthreads();
  y[thread() % 32] = gpu::warp_sum(1.0f);
}
__global__ void shuffle_with_missing_lanes_kernel(float* y) {
  y[thread()] = 0;
  if (threadIdx.x < 16) y[thread()] = __shfl_down_sync(gpu::kFullWarp, 1.0f, 1);
}
__global__ void shuffle_from_outside_the_mask_kernel(float* y) {
  y[thread()] = 0;
  if (threadIdx.x < 16) y[thread()] = __shfl_down_sync(0xffffu, 1.0f, 1);
}
__global__ void lane_outside_its_mask_kernel(float* y) {
  y[thread()] = __shfl_sync(0xffffu, 1.0f, 0);
}
__global__ void mma_with_a_missing_lane_kernel(float* y) {
  float d[4] = {0, 0, 0, 0};
  const uint32_t a[4] = {0, 0, 0, 0}, b[2] = {0, 0};
  if (threadIdx.x < 31) gpu::mma_m16n8k16<gpu::bf16>(d, a, b, d);
  y[thread()] = d[0];
}

// ---- copies and accesses of 16 bytes

__global__ void copy_never_awaited_kernel(float* y, const float* x) {
  GPU_SHARED_ALIGNED(16, float, s, [128]);
  gpu::cp_async_16(s + 4 * thread(), x + 4 * thread());
  gpu::cp_async_commit();
  __syncthreads();
  y[thread()] = s[4 * thread()];
}
__global__ void copy_awaited_too_little_kernel(float* y, const float* x) {
  GPU_SHARED_ALIGNED(16, float, s, [256]);
  gpu::cp_async_16(s + 4 * thread(), x + 4 * thread());
  gpu::cp_async_commit();
  gpu::cp_async_16(s + 128 + 4 * thread(), x + 128 + 4 * thread());
  gpu::cp_async_commit();
  gpu::cp_async_wait<1>();
  __syncthreads();
  y[thread()] = s[4 * thread()] + s[128 + 4 * thread()];
  gpu::cp_async_wait<0>();
}
__global__ void copy_awaited_without_barrier_kernel(float* y, const float* x) {
  GPU_SHARED_ALIGNED(16, float, s, [128]);
  gpu::cp_async_16(s + 4 * thread(), x + 4 * thread());
  gpu::cp_async_commit();
  gpu::cp_async_wait<0>();
  y[thread()] = s[127 - 4 * thread()];
}
__global__ void copy_into_what_is_read_kernel(float* y, const float* x) {
  GPU_SHARED_ALIGNED(16, float, s, [128]);
  float sum = 0;
  for (int tile = 0; tile < 2; ++tile) {
    gpu::cp_async_16(s + 4 * thread(), x + tile * 128 + 4 * thread());
    gpu::cp_async_commit();
    gpu::cp_async_wait<0>();
    __syncthreads();
    sum += s[127 - 4 * thread()];
  }
  y[thread()] = sum;
}
__global__ void copy_over_another_kernel(float* y, const float* x) {
  GPU_SHARED_ALIGNED(16, float, s, [128]);
  for (int tile = 0; tile < 2; ++tile) {
    gpu::cp_async_16(s + 4 * thread(), x + tile * 128 + 4 * thread());
    gpu::cp_async_commit();
  }
  gpu::cp_async_wait<0>();
  y[thread()] = s[4 * thread()];
}
__global__ void copy_from_past_end_kernel(float* y, const float* x) {
  GPU_SHARED_ALIGNED(16, float, s, [128]);
  gpu::cp_async_16(s + 4 * thread(), x + 132 + 4 * thread());
  gpu::cp_async_commit();
  gpu::cp_async_wait<0>();
  y[thread()] = s[4 * thread()];
}
__global__ void misaligned_global_pack_kernel(float* y, const float* x) {
  y[thread()] = gpu::load_pack(x + 4 * thread() + 2).v[0];
}
__global__ void misaligned_shared_pack_kernel(float* y) {
  GPU_SHARED(float, s, [128]);
  for (int i = 0; i < 4; ++i) s[4 * thread() + i] = 1.0f;
  y[thread()] = gpu::load_pack(s + 4 * thread()).v[0];
}
__global__ void misaligned_ldmatrix_kernel(float* y) {
  GPU_SHARED_ALIGNED(16, gpu::bf16, tile, [32][12]);  // rows 24 bytes apart
  for (int i = 0; i < 12; ++i) tile[thread()][i] = gpu::from_float<gpu::bf16>(1.0f);
  __syncwarp();
  uint32_t r[4];
  gpu::ldmatrix_x4(r, tile[thread()]);
  y[thread()] = static_cast<float>(r[0]);
}

}  // namespace

#define FACET_BUG_OF_Y(name, threads)                                             \
  void name(const BugRig& rig) {                                                  \
    gpu::launch(rig.stream, {.grid = 1, .block = threads}, name##_kernel, rig.y); \
  }
#define FACET_BUG_OF_X(name, threads)                                                    \
  void name(const BugRig& rig) {                                                         \
    gpu::launch(rig.stream, {.grid = 1, .block = threads}, name##_kernel, rig.y, rig.x); \
  }

FACET_BUG_OF_X(global_read_past_end, 32)
FACET_BUG_OF_Y(global_write_past_end, 32)
FACET_BUG_OF_Y(global_write_before, 33)
FACET_BUG_OF_Y(shared_read_past_end, 32)
FACET_BUG_OF_Y(shared_write_past_end, 32)
#if defined(FACET_EMULATED)
FACET_BUG_OF_Y(declared_shared_too_large, 32)
#endif
FACET_BUG_OF_Y(no_barrier, 64)
FACET_BUG_OF_X(no_second_barrier, 64)
FACET_BUG_OF_Y(no_syncwarp, 32)
FACET_BUG_OF_Y(syncwarp_of_the_wrong_half, 32)
FACET_BUG_OF_Y(shuffle_taken_for_a_barrier, 32)
FACET_BUG_OF_Y(counter_without_atomic, 64)
FACET_BUG_OF_Y(sum_in_order_of_arrival, 64)
FACET_BUG_OF_Y(shared_float_unwritten, 32)
FACET_BUG_OF_Y(shared_int_unwritten, 32)
FACET_BUG_OF_Y(global_unwritten, 32)
FACET_BUG_OF_Y(divergent_barrier, 64)
FACET_BUG_OF_Y(exit_before_barrier, 64)
FACET_BUG_OF_Y(barrier_against_shuffle, 64)
FACET_BUG_OF_Y(shuffle_with_missing_lanes, 32)
FACET_BUG_OF_Y(shuffle_from_outside_the_mask, 32)
FACET_BUG_OF_Y(lane_outside_its_mask, 32)
FACET_BUG_OF_Y(mma_with_a_missing_lane, 32)
FACET_BUG_OF_X(copy_never_awaited, 32)
FACET_BUG_OF_X(copy_awaited_too_little, 32)
FACET_BUG_OF_X(copy_awaited_without_barrier, 32)
FACET_BUG_OF_X(copy_into_what_is_read, 32)
FACET_BUG_OF_X(copy_over_another, 32)
FACET_BUG_OF_X(copy_from_past_end, 32)
FACET_BUG_OF_X(misaligned_global_pack, 32)
FACET_BUG_OF_Y(misaligned_shared_pack, 32)
FACET_BUG_OF_Y(misaligned_ldmatrix, 32)
#undef FACET_BUG_OF_Y
#undef FACET_BUG_OF_X

void dynamic_read_past_end(const BugRig& rig) {
  gpu::launch(rig.stream, {.grid = 1, .block = 32, .shared_bytes = 256},
              dynamic_read_past_end_kernel, rig.y);
}
void dynamic_memory_too_small(const BugRig& rig) {
  gpu::launch(rig.stream, {.grid = 1, .block = 32, .shared_bytes = 252},
              dynamic_read_past_end_kernel, rig.y);
}
void dynamic_sizes_disagree(const BugRig& rig) {
  gpu::launch(rig.stream, {.grid = 1, .block = 32, .shared_bytes = 128},
              dynamic_sizes_disagree_kernel, rig.y);
}
void stack_too_deep(const BugRig& rig) {
  gpu::launch(rig.stream, {.grid = 1, .block = 32}, stack_too_deep_kernel, rig.y, 128 * 1024);
}
void blocks_write_one_place(const BugRig& rig) {
  gpu::launch(rig.stream, {.grid = 2, .block = 32}, blocks_write_one_place_kernel, rig.y);
}
void block_reads_another_block(const BugRig& rig) {
  gpu::launch(rig.stream, {.grid = 2, .block = 32}, block_reads_another_block_kernel, rig.y);
}
void output_unwritten(const BugRig& rig) {
  gpu::launch(rig.stream, {.grid = 1, .block = 32}, output_unwritten_kernel, rig.y, 32);
}
void signed_overflow(const BugRig& rig) {
  gpu::launch(rig.stream, {.grid = 1, .block = 32}, signed_overflow_kernel, rig.y, 0x7fffffff);
}
void mask_beyond_the_block(const BugRig& rig) {
  gpu::launch(rig.stream, {.grid = 1, .block = 16}, no_syncwarp_kernel, rig.y);
  gpu::launch(rig.stream, {.grid = 1, .block = 16}, shuffle_taken_for_a_barrier_kernel, rig.y);
}

}  // namespace facet::kernel_test::bugs
