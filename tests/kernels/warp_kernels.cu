#include "tests/kernels/warp_kernels.h"

#include "kernels/gpu.h"

namespace facet::kernel_test {
namespace {

__global__ void two_segments_kernel(int* y) {
  const int i = static_cast<int>(threadIdx.x);
  const unsigned low = 0x0000ffffu, high = 0xffff0000u;
  int v = i;
  if (i < 16) {
    v = __shfl_sync(low, v, 3);
  } else {
    v = __shfl_down_sync(high, v, 1);
    v = __shfl_up_sync(high, v, 2, 8);
  }
  y[i] = v;
}

__global__ void partial_warp_kernel(int* y) {
  const unsigned mask = threadIdx.x < 32 ? gpu::kFullWarp : 0xffffu;
  int v = static_cast<int>(threadIdx.x);
  for (int lanes = 8; lanes > 0; lanes /= 2) v += __shfl_xor_sync(mask, v, lanes, 16);
  y[threadIdx.x] = v;
}

__global__ void block_votes_kernel(int* y) {
  GPU_SHARED(int, tile, [4][8]);
  const int row = static_cast<int>(threadIdx.y), col = static_cast<int>(threadIdx.x);
  tile[row][col] = row * 8 + col;
  const int count = __syncthreads_count(col < 3);
  const int all = __syncthreads_and(col < 8), none = __syncthreads_or(col > 8);
  y[row * 8 + col] = tile[3 - row][7 - col] * 1000 + count * 10 + all * 2 + none;
}

__global__ void warp_votes_kernel(unsigned* y) {
  const unsigned lane = threadIdx.x;
  unsigned* mine = y + lane * 6;
  mine[0] = __ballot_sync(gpu::kFullWarp, lane % 3 == 0);
  mine[1] = static_cast<unsigned>(__any_sync(gpu::kFullWarp, lane == 31));
  mine[2] = static_cast<unsigned>(__all_sync(gpu::kFullWarp, lane != 31));
  mine[3] = __match_any_sync(gpu::kFullWarp, static_cast<int>(lane % 4));
  mine[4] = static_cast<unsigned>(__popc(mine[0]));
  mine[5] = static_cast<unsigned>(__all_sync(gpu::kFullWarp, lane < 32));
}

__global__ void warp_reductions_kernel(int* y) {
  const int lane = static_cast<int>(threadIdx.x);
  int* mine = y + lane * 6;
  mine[0] = __reduce_add_sync(gpu::kFullWarp, lane - 16);
  mine[1] = __reduce_min_sync(gpu::kFullWarp, lane - 16);
  mine[2] = __reduce_max_sync(gpu::kFullWarp, lane - 16);
  mine[3] = static_cast<int>(__reduce_and_sync(gpu::kFullWarp, threadIdx.x | 96u));
  mine[4] = static_cast<int>(__reduce_or_sync(gpu::kFullWarp, threadIdx.x));
  mine[5] = static_cast<int>(__reduce_xor_sync(gpu::kFullWarp, threadIdx.x + 1u));
}

__global__ void submask_sync_kernel(float* y) {
  GPU_SHARED(float, s, [32]);
  const int i = static_cast<int>(threadIdx.x);
  const unsigned half = i < 16 ? 0x0000ffffu : 0xffff0000u;
  s[i] = static_cast<float>(i);
  __syncwarp(half);
  y[i] = s[i ^ 1];  // of the same half
  __syncwarp();
  s[31 - i] = 0.0f;  // of the other
}

// Within warps by shuffles, over warps by shared memory.
__global__ void inclusive_scan_kernel(int* y, const int* x, int n) {
  GPU_SHARED(int, total_W, [8]);
  const int i = static_cast<int>(threadIdx.x), lane = i % 32, warp = i / 32;
  int sum = i < n ? x[i] : 0;
  for (unsigned delta = 1; delta < 32; delta *= 2) {
    const int below = __shfl_up_sync(gpu::kFullWarp, sum, delta);
    if (lane >= static_cast<int>(delta)) sum += below;
  }
  if (lane == 31) total_W[warp] = sum;
  __syncthreads();
  for (int w = 0; w < warp; ++w) sum += total_W[w];
  if (i < n) y[i] = sum;
}

template <int kThreads>
__global__ void __launch_bounds__(kThreads) block_sums_kernel(float* y, const float* x, int n) {
  float sum = 0;
  for (int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x); i < n;
       i += static_cast<int>(gridDim.x) * kThreads)
    sum += x[i];
  sum = gpu::block_sum<kThreads>(sum);
  const float twice = gpu::block_sum<kThreads>(sum / kThreads);  // its shared array is used again
  if (threadIdx.x == 0) y[blockIdx.x] = sum + twice;
}

__global__ void histogram_kernel(int* counts, const int* x, int n, int bins) {
  gpu::SharedArrays arrays;
  int* local = arrays.take<int>(static_cast<size_t>(bins));
  for (int b = static_cast<int>(threadIdx.x); b < bins; b += static_cast<int>(blockDim.x))
    local[b] = 0;
  __syncthreads();
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) atomicAdd(&local[x[i]], 1);
  __syncthreads();
  for (int b = static_cast<int>(threadIdx.x); b < bins; b += static_cast<int>(blockDim.x))
    atomicAdd(&counts[b], local[b]);
}

__global__ void atomic_extremes_kernel(int* y, const int* x, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  atomicMax(&y[0], x[i]);
  atomicMin(&y[1], x[i]);
  if (i == 0) atomicExch(&y[2], 7);
  if (x[i] == 5) atomicCAS(&y[3], 0, 9);
}

}  // namespace

void two_segments(int* y, cudaStream_t stream) {
  gpu::launch(stream, {.grid = 1, .block = 32}, two_segments_kernel, y);
}
void partial_warp(int* y, cudaStream_t stream) {
  gpu::launch(stream, {.grid = 1, .block = 48}, partial_warp_kernel, y);
}
void block_votes(int* y, cudaStream_t stream) {
  gpu::launch(stream, {.grid = 1, .block = dim3(8, 4)}, block_votes_kernel, y);
}
void warp_votes(unsigned* y, cudaStream_t stream) {
  gpu::launch(stream, {.grid = 1, .block = 32}, warp_votes_kernel, y);
}
void warp_reductions(int* y, cudaStream_t stream) {
  gpu::launch(stream, {.grid = 1, .block = 32}, warp_reductions_kernel, y);
}
void submask_sync(float* y, cudaStream_t stream) {
  gpu::launch(stream, {.grid = 1, .block = 32}, submask_sync_kernel, y);
}
void inclusive_scan(int* y, const int* x, int n, cudaStream_t stream) {
  gpu::launch(stream, {.grid = 1, .block = 256}, inclusive_scan_kernel, y, x, n);
}
void block_sums(float* y, const float* x, int n, cudaStream_t stream) {
  gpu::launch(stream, {.grid = 4, .block = 128}, block_sums_kernel<128>, y, x, n);
}
void histogram(int* counts, const int* x, int n, int bins, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>((n + 127) / 128);
  gpu::launch(
      stream,
      {.grid = blocks, .block = 128, .shared_bytes = static_cast<size_t>(bins) * sizeof(int)},
      histogram_kernel, counts, x, n, bins);
}
void atomic_extremes(int* y, const int* x, int n, cudaStream_t stream) {
  gpu::launch(stream, {.grid = static_cast<unsigned>((n + 63) / 64), .block = 64},
              atomic_extremes_kernel, y, x, n);
}

}  // namespace facet::kernel_test
