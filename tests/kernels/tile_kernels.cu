#include "tests/kernels/tile_kernels.h"

#include "kernels/gpu.h"

namespace facet::kernel_test {
namespace {

// Two neighbours of a column of b, or of a row of a, as one register.
GPU_DEVICE uint32_t pair(uint16_t low, uint16_t high) {
  return static_cast<uint32_t>(low) | static_cast<uint32_t>(high) << 16;
}

template <typename T>
__global__ void mma_by_elements_kernel(float* d, const uint16_t* a, const uint16_t* b,
                                       const float* c) {
  const int lane = static_cast<int>(threadIdx.x), group = lane / 4, quad = lane % 4 * 2;
  uint32_t a_registers[4], b_registers[2];
  for (int i = 0; i < 4; ++i) {
    const int row = group + i % 2 * 8, col = quad + i / 2 * 8;
    a_registers[i] = pair(a[row * 16 + col], a[row * 16 + col + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    const int row = quad + i * 8;
    b_registers[i] = pair(b[row * 8 + group], b[(row + 1) * 8 + group]);
  }
  float result[4];
  const int place[4] = {group * 8 + quad, group * 8 + quad + 1, (group + 8) * 8 + quad,
                        (group + 8) * 8 + quad + 1};
  const float start[4] = {c[place[0]], c[place[1]], c[place[2]], c[place[3]]};
  gpu::mma_m16n8k16<T>(result, a_registers, b_registers, start);
  for (int i = 0; i < 4; ++i) d[place[i]] = result[i];
}

template <typename T>
__global__ void mma_by_ldmatrix_kernel(float* d, const uint16_t* a, const uint16_t* b) {
  GPU_SHARED_ALIGNED(16, uint16_t, a_tile, [16][16]);
  GPU_SHARED_ALIGNED(16, uint16_t, b_tile, [16][8]);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += 32) a_tile[i / 16][i % 16] = a[i];
  for (int i = lane; i < 128; i += 32) b_tile[i / 8][i % 8] = b[i];
  __syncwarp();
  uint32_t a_registers[4], b_registers[2];
  gpu::ldmatrix_x4(a_registers, &a_tile[lane % 16][lane / 16 * 8]);
  gpu::ldmatrix_x2_transposed(b_registers, b_tile[lane % 16]);
  float result[4] = {0, 0, 0, 0};
  gpu::mma_m16n8k16<T>(result, a_registers, b_registers, result);
  for (int i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = result[i];
}

__global__ void ldmatrix_registers_kernel(uint32_t* y, const uint16_t* x) {
  GPU_SHARED_ALIGNED(16, uint16_t, tile, [32][8]);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = 0; i < 8; ++i) tile[lane][i] = x[lane * 8 + i];
  __syncwarp();
  uint32_t plain[4], transposed[4];
  gpu::ldmatrix_x4(plain, tile[lane]);
  gpu::ldmatrix_x4_transposed(transposed, tile[lane]);
  for (int i = 0; i < 4; ++i) {
    y[lane * 8 + i] = plain[i];
    y[lane * 8 + 4 + i] = transposed[i];
  }
}

template <typename T>
__global__ void round_pairs_kernel(T* y, const float* x, int n) {
  const int i = 2 * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  gpu::store_pair(y + i, gpu::pair_of<T>(x[i], x[i + 1]));
  // There and back again.
  const uint32_t pair = gpu::load_pair(y + i);
  gpu::store_pair(y + i, pair);
}

constexpr int kStages = 3, kTile = 128;

GPU_DEVICE void fetch_tile(float* tile, const float* x, int first, int n) {
  const int i = first + 4 * static_cast<int>(threadIdx.x);
  const int left = n - i < 0 ? 0 : n - i > 4 ? 4 : n - i;
  gpu::cp_async_16(tile + 4 * threadIdx.x, left > 0 ? x + i : x,
                   left * static_cast<int>(sizeof(float)));
}

__global__ void copy_through_ring_kernel(float* y, const float* x, int n) {
  GPU_SHARED_ALIGNED(16, float, ring, [kStages][kTile]);
  const int tiles = (n + kTile - 1) / kTile;
  for (int stage = 0; stage < kStages - 1; ++stage) {
    fetch_tile(ring[stage], x, stage * kTile, n);
    gpu::cp_async_commit();
  }
  for (int tile = 0; tile < tiles; ++tile) {
    gpu::cp_async_wait<kStages - 2>();
    __syncthreads();  // the tile is there for all, and all have read the one that is fetched next
    fetch_tile(ring[(tile + kStages - 1) % kStages], x, (tile + kStages - 1) * kTile, n);
    gpu::cp_async_commit();
    for (int i = static_cast<int>(threadIdx.x); i < kTile && tile * kTile + i < n; i += 32)
      y[tile * kTile + i] = ring[tile % kStages][i];
  }
  gpu::cp_async_wait<0>();
}

}  // namespace

void mma_by_elements(float* d, const uint16_t* a, const uint16_t* b, const float* c, HalfType type,
                     cudaStream_t stream) {
  const auto kernel = type == HalfType::kBF16 ? mma_by_elements_kernel<gpu::bf16>
                                              : mma_by_elements_kernel<gpu::f16>;
  gpu::launch(stream, {.grid = 1, .block = 32}, kernel, d, a, b, c);
}
void mma_by_ldmatrix(float* d, const uint16_t* a, const uint16_t* b, HalfType type,
                     cudaStream_t stream) {
  const auto kernel = type == HalfType::kBF16 ? mma_by_ldmatrix_kernel<gpu::bf16>
                                              : mma_by_ldmatrix_kernel<gpu::f16>;
  gpu::launch(stream, {.grid = 1, .block = 32}, kernel, d, a, b);
}
void ldmatrix_registers(uint32_t* y, const uint16_t* x, cudaStream_t stream) {
  gpu::launch(stream, {.grid = 1, .block = 32}, ldmatrix_registers_kernel, y, x);
}
void round_pairs(uint16_t* y, const float* x, int n, HalfType type, cudaStream_t stream) {
  const gpu::LaunchShape shape{.grid = static_cast<unsigned>((n + 63) / 64), .block = 32};
  if (type == HalfType::kBF16)
    gpu::launch(stream, shape, round_pairs_kernel<gpu::bf16>, reinterpret_cast<gpu::bf16*>(y), x,
                n);
  else
    gpu::launch(stream, shape, round_pairs_kernel<gpu::f16>, reinterpret_cast<gpu::f16*>(y), x, n);
}
void copy_through_ring(float* y, const float* x, int n, cudaStream_t stream) {
  gpu::launch(stream, {.grid = 1, .block = 32}, copy_through_ring_kernel, y, x, n);
}

}  // namespace facet::kernel_test
