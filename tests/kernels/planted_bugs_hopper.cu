// Mistakes around Hopper's barriers, copies of boxes and products.
#include "kernels/gpu_hopper.h"
#include "tests/kernels/planted_bugs.h"

namespace facet::kernel_test::bugs {
namespace {

using gpu::bf16;

constexpr int kWarpgroup = gpu::kWarpgroupSize;
constexpr int kRows = 8, kCols = 64, kBox = kRows * kCols;  // x as bf16: 512 elements, one box
constexpr unsigned kBoxBytes = kBox * sizeof(bf16);

GPU_DEVICE int thread() { return static_cast<int>(threadIdx.x); }

GPU_DEVICE void make_barrier(gpu::Barrier& barrier, unsigned arrivals) {
  if (threadIdx.x == 0) {
    gpu::init_barrier(barrier, arrivals);
    gpu::fence_barrier_init();
  }
  __syncthreads();
}

// ---- copies of boxes and their barriers

// A correct copy of one box but for what `kBug` says.
enum class CopyBug : uint8_t {
  kNone,
  kNoWait,
  kWrongPhase,
  kPhaseThatNeverComes,
  kTooFewBytes,
  kTooManyBytes,
  kNoInitFence,
  kNoInit,
  kNoBarrierAfterInit,
  kSecondArrival,
  kMisaligned
};

template <CopyBug kBug>
__global__ void copy_kernel(float* y, const __grid_constant__ gpu::TensorMap map) {
  gpu::Tiles tiles;
  bf16* tile = tiles.take<bf16>(2 * kBox);
  GPU_SHARED(gpu::Barrier, there, );
  if (threadIdx.x == 0 && kBug != CopyBug::kNoInit) {
    gpu::init_barrier(there, 1);
    if (kBug != CopyBug::kNoInitFence) gpu::fence_barrier_init();
  }
  if (kBug != CopyBug::kNoBarrierAfterInit) __syncthreads();
  if (threadIdx.x == 0) {
    constexpr unsigned kBytes = kBug == CopyBug::kTooFewBytes    ? kBoxBytes - 16
                                : kBug == CopyBug::kTooManyBytes ? kBoxBytes + 16
                                                                 : kBoxBytes;
    gpu::arrive_expecting(there, kBytes);
    if (kBug == CopyBug::kSecondArrival) gpu::arrive(there);
    gpu::load_box(tile + (kBug == CopyBug::kMisaligned ? kCols : 0), map, there, 0, 0);
  }
  if (kBug == CopyBug::kPhaseThatNeverComes) gpu::wait_barrier(there, 0);
  if (kBug == CopyBug::kWrongPhase || kBug == CopyBug::kPhaseThatNeverComes)
    gpu::wait_barrier(there, 1);
  else if (kBug != CopyBug::kNoWait)
    gpu::wait_barrier(there, 0);
  y[thread()] = gpu::to_float(tile[thread()]);
  if (kBug == CopyBug::kWrongPhase) gpu::wait_barrier(there, 0);
}

// Two phases go by without regard to the warp that waits for the first of them. It begins to wait
// before they do.
__global__ void passing_phases_kernel(float* y) {
  GPU_SHARED(gpu::Barrier, started, );
  GPU_SHARED(gpu::Barrier, there, );
  if (threadIdx.x == 0) {
    gpu::init_barrier(started, 32);
    gpu::init_barrier(there, 1);
    gpu::fence_barrier_init();
  }
  __syncthreads();
  if (thread() == 32) {
    gpu::wait_barrier(started, 0);
    for (int phase = 0; phase < 2; ++phase) gpu::arrive(there);
  }
  if (thread() >= 32) return;
  gpu::arrive(started);
  gpu::wait_barrier(there, 0);
  y[thread()] = 1.0f;
}

template <CopyBug kBug>
void copy_box(const BugRig& rig) {
  const gpu::TensorMap map =
      gpu::make_tensor_map(reinterpret_cast<const bf16*>(rig.x), kRows, kCols, kCols, kRows, kCols);
  gpu::launch(rig.stream, {.grid = 1, .block = 32, .shared_bytes = 2 * kBoxBytes},
              copy_kernel<kBug>, rig.y, map);
}

// One thread fetches boxes into one place, a warp adds them up.
template <bool kSaysEmpty>
__global__ void ring_kernel(float* y, const __grid_constant__ gpu::TensorMap map) {
  gpu::Tiles tiles;
  bf16* tile = tiles.take<bf16>(kBox);
  GPU_SHARED(gpu::Barrier, full, );
  GPU_SHARED(gpu::Barrier, empty, );
  if (threadIdx.x == 0) {
    gpu::init_barrier(full, 1);
    gpu::init_barrier(empty, 32);
    gpu::fence_barrier_init();
  }
  __syncthreads();
  if (thread() >= 32) {
    if (thread() > 32) return;
    for (unsigned i = 0; i < 2; ++i) {
      if (kSaysEmpty) gpu::wait_barrier(empty, i ^ 1);
      gpu::arrive_expecting(full, kBoxBytes);
      gpu::load_box(tile, map, full, 0, 0);
      if (!kSaysEmpty) gpu::wait_barrier(full, i);
    }
    return;
  }
  float sum = 0;
  for (unsigned i = 0; i < 2; ++i) {
    gpu::wait_barrier(full, i);
    sum += gpu::to_float(tile[thread()]);
    if (kSaysEmpty) gpu::arrive(empty);
  }
  y[thread()] = sum;
}

// ---- maps

template <typename Make>
void load_by_map(const BugRig& rig, const Make& make) {
  const gpu::TensorMap map = make(reinterpret_cast<const bf16*>(rig.x));
  gpu::launch(rig.stream, {.grid = 1, .block = 32, .shared_bytes = 2 * kBoxBytes},
              copy_kernel<CopyBug::kNone>, rig.y, map);
}

// ---- products

enum class ProductBug : uint8_t {
  kNoFence,
  kNoWait,
  kAwaitedTooLittle,
  kWrittenBeforeWait,
  kChangedA,
  kNoProxyFence,
  kStoredTooEarly,
  kOffTheSwizzle,
  kOneWarpMissing,
  kOtherOperand
};

template <ProductBug kBug>
__global__ void product_kernel(float* y) {
  gpu::Tiles tiles;
  bf16* b = tiles.take<bf16>(128 * kCols);
  for (int i = thread(); i < 128 * kCols; i += kWarpgroup) b[i] = gpu::from_float<bf16>(1.0f);
  if (kBug != ProductBug::kNoProxyFence) gpu::fence_async_proxy();
  __syncthreads();
  float d[16][4];
  uint32_t a[1][4];
  for (int i = 0; i < 4; ++i) a[0][i] = gpu::pair_of<bf16>(1.0f, 1.0f);
  if (kBug != ProductBug::kNoFence) gpu::wgmma_fence(d, a);
  const bf16* at = kBug == ProductBug::kOffTheSwizzle ? b + kCols : b;
  if (kBug == ProductBug::kOtherOperand && thread() >= 96) at = b + 16;
  if (kBug != ProductBug::kOneWarpMissing || thread() < 96)
    gpu::wgmma_m64k16<bf16, gpu::Major::kK>(d, a[0], gpu::operand_of_columns(at, 0), false);
  gpu::wgmma_commit();
  if (kBug == ProductBug::kStoredTooEarly) {
    __syncthreads();
    b[thread()] = gpu::from_float<bf16>(0.0f);
    gpu::fence_async_proxy();
  }
  if (kBug == ProductBug::kWrittenBeforeWait) d[0][0] = 0;
  if (kBug == ProductBug::kChangedA) a[0][0] = 0;
  const float early = d[0][1];
  if (kBug == ProductBug::kAwaitedTooLittle)
    gpu::wgmma_wait<1>(d, a);
  else if (kBug != ProductBug::kNoWait)
    gpu::wgmma_wait<0>(d, a);
  if (thread() < 32) y[thread()] = kBug == ProductBug::kNoWait ? early : d[0][1];
  if (kBug == ProductBug::kAwaitedTooLittle) gpu::wgmma_wait<0>(d, a);
}

template <ProductBug kBug>
void multiply(const BugRig& rig) {
  gpu::launch(rig.stream,
              {.grid = 1, .block = kWarpgroup, .shared_bytes = 128 * kCols * sizeof(bf16)},
              product_kernel<kBug>, rig.y);
}

// Only the last accumulator of 32 is written.
__global__ void narrow_product_kernel(float* y) {
  gpu::Tiles tiles;
  bf16* tile = tiles.take<bf16>(64 * kCols);
  for (int i = thread(); i < 64 * kCols; i += kWarpgroup) tile[i] = gpu::from_float<bf16>(1.0f);
  gpu::fence_async_proxy();
  __syncthreads();
  float d[8][4];
  const uint64_t operand = gpu::operand_of_columns(tile, 0);
  gpu::wgmma_fence(d);
  gpu::wgmma_m64k16<bf16, gpu::Major::kK>(d, operand, operand, false);
  gpu::wgmma_commit();
  d[7][3] = 0;
  gpu::wgmma_wait<0>(d);
  if (thread() < 32) y[thread()] = d[7][3];
}

// Only the last accumulator of 128 is written.
__global__ void wide_product_kernel(float* y) {
  gpu::Tiles tiles;
  bf16* tile = tiles.take<bf16>(256 * kCols);
  for (int i = thread(); i < 256 * kCols; i += kWarpgroup) tile[i] = gpu::from_float<bf16>(1.0f);
  gpu::fence_async_proxy();
  __syncthreads();
  float d[32][4];
  const uint64_t operand = gpu::operand_of_columns(tile, 0);
  gpu::wgmma_fence(d);
  gpu::wgmma_m64k16<bf16, gpu::Major::kK>(d, operand, operand, false);
  gpu::wgmma_commit();
  d[31][3] = 0;
  gpu::wgmma_wait<0>(d);
  if (thread() < 32) y[thread()] = d[31][3];
}

__global__ void product_of_unswizzled_box_kernel(float* y,
                                                 const __grid_constant__ gpu::TensorMap map) {
  gpu::Tiles tiles;
  bf16* b = tiles.take<bf16>(128 * kCols);
  GPU_SHARED(gpu::Barrier, there, );
  make_barrier(there, 1);
  if (threadIdx.x == 0) {
    gpu::arrive_expecting(there, 16 * kBoxBytes);
    for (int i = 0; i < 16; ++i) gpu::load_box(b + i * kBox, map, there, 0, 0);
  }
  gpu::wait_barrier(there, 0);
  float d[16][4];
  const uint32_t a[4] = {0, 0, 0, 0};
  gpu::wgmma_fence(d);
  gpu::wgmma_m64k16<bf16, gpu::Major::kK>(d, a, gpu::operand_of_columns(b, 0), false);
  gpu::wgmma_commit();
  gpu::wgmma_wait<0>(d);
  if (thread() < 32) y[thread()] = d[0][0];
}

// ---- blocks that take turns

enum class TurnBug : uint8_t {
  kNoWait,
  kNoBarrier,
  kReleasedTooEarly,
  kOfLaterBlock,
  kOfBlockBefore,
  kMisaligned
};

// Two blocks add to y, one after the other: by 8 threads, of which the first waits for its turn.
template <TurnBug kBug>
__global__ void turns_kernel(float* y, int32_t* taken, int32_t* counter) {
  GPU_SHARED(int32_t, turn_of_block, [1]);
  if (threadIdx.x == 0) turn_of_block[0] = atomicAdd(taken, 1);
  __syncthreads();
  const int32_t turn = turn_of_block[0];
  const int32_t awaited = kBug == TurnBug::kOfLaterBlock    ? 1 - turn
                          : kBug == TurnBug::kOfBlockBefore ? 0
                                                            : turn;
  if (kBug != TurnBug::kNoWait && threadIdx.x == 0) gpu::await_count(counter, awaited);
  if (kBug == TurnBug::kNoBarrier)
    __shfl_sync(0xff, awaited, 0);  // the others are later, but a shuffle orders nothing
  else
    __syncthreads();
  if (kBug == TurnBug::kReleasedTooEarly && threadIdx.x == 0) gpu::release_count(counter, turn + 1);
  gpu::Pack<float> four;
  for (float& value : four.v) value = 1.0f / static_cast<float>(turn + 3);
  float* const to = y + thread() * 4 + (kBug == TurnBug::kMisaligned ? 1 : 0);
  if (turn == 0)
    gpu::store_pack_global(y + thread() * 4, four);
  else
    gpu::add_pack_global(to, four);
  __syncthreads();
  if (kBug != TurnBug::kReleasedTooEarly && threadIdx.x == 0) gpu::release_count(counter, turn + 1);
}

template <TurnBug kBug>
void take_turns(const BugRig& rig, unsigned cluster = 1) {
  auto* const counters = reinterpret_cast<int32_t*>(rig.y + 32);
  cudaMemsetAsync(counters, 0, 2 * sizeof(int32_t), rig.stream);
  gpu::launch(rig.stream, {.grid = 2, .block = 8, .cluster = cluster}, turns_kernel<kBug>, rig.y,
              counters, counters + 1);
}

// ---- clusters

enum class ClusterBug : uint8_t {
  kNoClusterBarrier,
  kOwnReleaseOnly,
  kReleasedTooEarly,
  kHalfOfTheBytes,
  kExitsEarly,
  kBoxForAThird,
  kArrivalInAThird,
  kWarpGoneBeforeBarrier
};

// Each of two blocks fetches half of a tile for both, twice. A correct ring but for what `kBug`
// says.
template <ClusterBug kBug>
__global__ void cluster_kernel(float* y, const __grid_constant__ gpu::TensorMap map) {
  constexpr unsigned kBytes = kBug == ClusterBug::kHalfOfTheBytes ? kBoxBytes : 2 * kBoxBytes;
  constexpr unsigned kFor = kBug == ClusterBug::kBoxForAThird ? 7 : 3;
  constexpr bool kOwnOnly = kBug == ClusterBug::kOwnReleaseOnly;
  constexpr bool kTooEarly = kBug == ClusterBug::kReleasedTooEarly;
  gpu::Tiles tiles;
  bf16* tile = tiles.take<bf16>(2 * kBox);
  GPU_SHARED(gpu::Barrier, full, );
  GPU_SHARED(gpu::Barrier, empty, );
  if (threadIdx.x == 0) {
    gpu::init_barrier(full, 1);
    gpu::init_barrier(empty, kOwnOnly ? 1 : 2);
    gpu::fence_barrier_init();
  }
  if (kBug == ClusterBug::kWarpGoneBeforeBarrier && thread() >= 64) return;
  if (kBug == ClusterBug::kNoClusterBarrier)
    __syncthreads();
  else
    gpu::sync_cluster();
  const unsigned block = gpu::block_in_cluster();
  if (thread() == 32) {
    for (unsigned i = 0; i < 2; ++i) {
      gpu::wait_barrier(empty, i ^ 1);
      gpu::arrive_expecting(full, kBytes);
      gpu::load_box_to_cluster(tile + static_cast<int>(block) * kBox, map, full, 0, 0, kFor);
    }
    if (kBug != ClusterBug::kExitsEarly) gpu::wait_barrier(empty, 1);
  }
  if (thread() >= 32) return;
  float sum = 0;
  for (unsigned i = 0; i < 2; ++i) {
    gpu::wait_barrier(full, i);
    if (kTooEarly && thread() == 0) gpu::arrive_in_cluster(empty, block ^ 1);
    sum += gpu::to_float(tile[thread()]) + gpu::to_float(tile[kBox + thread()]);
    __syncwarp();
    if (thread() > 0) continue;
    gpu::arrive(empty);
    if (!kOwnOnly && !kTooEarly)
      gpu::arrive_in_cluster(empty, kBug == ClusterBug::kArrivalInAThird ? 2 : block ^ 1);
  }
  if (block == 0) y[thread()] = sum;
}

// The second block reads what the first one wrote to global memory before it arrived.
__global__ void passing_global_memory_kernel(float* y) {
  GPU_SHARED(gpu::Barrier, there, );
  if (threadIdx.x == 0) {
    gpu::init_barrier(there, 32);
    gpu::fence_barrier_init();
  }
  gpu::sync_cluster();
  if (gpu::block_in_cluster() == 0) {
    y[32 + thread()] = 1.0f;
    gpu::arrive_in_cluster(there, 1);
  } else {
    gpu::wait_barrier(there, 0);
    y[thread()] = y[32 + thread()];
  }
}

// y is 0 where the threads of the first block draw their numbers before those of the second,
// else 1.
__global__ void drawn_numbers_kernel(float* y, int32_t* drawn) {
  const int32_t number = atomicAdd(drawn, 1);
  if (gpu::block_in_cluster() == 0) y[thread()] = static_cast<float>(number / 32);
}

// The first block fetches for the second, which waits for a box of its own only.
__global__ void box_to_ended_block_kernel(float* y, const __grid_constant__ gpu::TensorMap map) {
  gpu::Tiles tiles;
  bf16* tile = tiles.take<bf16>(2 * kBox);
  GPU_SHARED(gpu::Barrier, mine, );
  GPU_SHARED(gpu::Barrier, others, );
  if (threadIdx.x == 0) {
    gpu::init_barrier(mine, 1);
    gpu::init_barrier(others, 1);
    gpu::fence_barrier_init();
  }
  gpu::sync_cluster();
  if (threadIdx.x == 0) {
    gpu::arrive_expecting(mine, kBoxBytes);
    gpu::load_box(tile, map, mine, 0, 0);
    if (gpu::block_in_cluster() == 0) gpu::load_box_to_cluster(tile + kBox, map, others, 0, 0, 2);
  }
  gpu::wait_barrier(mine, 0);
  y[gpu::block_in_cluster() * 32 + threadIdx.x] = gpu::to_float(tile[thread()]);
}

template <ClusterBug kBug>
void fetch_for_two(const BugRig& rig) {
  const gpu::TensorMap map =
      gpu::make_tensor_map(reinterpret_cast<const bf16*>(rig.x), kRows, kCols, kCols, kRows, kCols);
  gpu::launch(rig.stream, {.grid = 2, .block = 96, .shared_bytes = 2 * kBoxBytes, .cluster = 2},
              cluster_kernel<kBug>, rig.y, map);
}

// Three warps read what a fourth one overwrites when two of them have released it.
__global__ void third_reader_kernel(float* y) {
  GPU_SHARED(float, numbers, [32]);
  GPU_SHARED(gpu::Barrier, full, );
  GPU_SHARED(gpu::Barrier, empty, );
  if (threadIdx.x == 0) {
    gpu::init_barrier(full, 32);
    gpu::init_barrier(empty, 2 * 32);
  }
  __syncthreads();
  const int warp = thread() / 32, lane = thread() % 32;
  if (warp == 3) {
    numbers[lane] = 1.0f;
    gpu::arrive(full);
    gpu::wait_barrier(empty, 0);
    numbers[lane] = 2.0f;
    return;
  }
  gpu::wait_barrier(full, 0);
  const float number = numbers[lane];
  if (warp == 2 || number < 0) y[lane] = number;
  if (warp < 2) gpu::arrive(empty);
}

// As many as a multiprocessor has, where a block of 384 threads is launched with 168 for each.
__global__ void __launch_bounds__(3 * kWarpgroup, 1) too_many_registers_kernel(float* y) {
  if (thread() < kWarpgroup)
    gpu::lower_registers<32>();
  else
    gpu::raise_registers<240>();
  if (thread() < 32) y[thread()] = 1.0f;
}
#if defined(FACET_EMULATED)  // nvcc refuses it
__global__ void odd_registers_kernel(float* y) {
  gpu::lower_registers<100>();
  if (thread() < 32) y[thread()] = 1.0f;
}
#endif

}  // namespace

void box_never_awaited(const BugRig& rig) { copy_box<CopyBug::kNoWait>(rig); }
void box_of_the_wrong_phase(const BugRig& rig) { copy_box<CopyBug::kWrongPhase>(rig); }
void phase_that_never_comes(const BugRig& rig) { copy_box<CopyBug::kPhaseThatNeverComes>(rig); }
void phase_that_has_passed(const BugRig& rig) {
  gpu::launch(rig.stream, {.grid = 1, .block = 64}, passing_phases_kernel, rig.y);
}
void fewer_bytes_announced(const BugRig& rig) { copy_box<CopyBug::kTooFewBytes>(rig); }
void more_bytes_announced(const BugRig& rig) { copy_box<CopyBug::kTooManyBytes>(rig); }
void no_fence_after_init(const BugRig& rig) { copy_box<CopyBug::kNoInitFence>(rig); }
void barrier_never_initialised(const BugRig& rig) { copy_box<CopyBug::kNoInit>(rig); }
void barrier_used_before_init(const BugRig& rig) { copy_box<CopyBug::kNoBarrierAfterInit>(rig); }
void one_arrival_too_many(const BugRig& rig) { copy_box<CopyBug::kSecondArrival>(rig); }
void misaligned_box(const BugRig& rig) { copy_box<CopyBug::kMisaligned>(rig); }

void box_into_what_is_read(const BugRig& rig) {
  const gpu::TensorMap map =
      gpu::make_tensor_map(reinterpret_cast<const bf16*>(rig.x), kRows, kCols, kCols, kRows, kCols);
  gpu::launch(rig.stream, {.grid = 1, .block = 64, .shared_bytes = kBoxBytes}, ring_kernel<false>,
              rig.y, map);
}

void map_of_misaligned_matrix(const BugRig& rig) {
  load_by_map(rig, [](const bf16* x) {
    return gpu::make_tensor_map(x + 4, 4, kCols, kCols, kRows, kCols);
  });
}
void map_of_odd_stride(const BugRig& rig) {
  load_by_map(rig, [](const bf16* x) {
    return gpu::make_tensor_map(x, 4, kCols, kCols + 4, kRows, kCols);
  });
}
void box_over_the_limit(const BugRig& rig) {
  load_by_map(
      rig, [](const bf16* x) { return gpu::make_tensor_map(x, kRows, kCols, kCols, 257, kCols); });
}
void box_wider_than_the_swizzle(const BugRig& rig) {
  load_by_map(rig, [](const bf16* x) {
    return gpu::make_tensor_map(x, 4, 2 * kCols, 2 * kCols, kRows, 2 * kCols);
  });
}
void map_past_the_end(const BugRig& rig) {
  load_by_map(rig,
              [](const bf16* x) { return gpu::make_tensor_map(x, 9, kCols, kCols, kRows, kCols); });
}
void product_of_unswizzled_box(const BugRig& rig) {
  const gpu::TensorMap map = gpu::make_tensor_map(reinterpret_cast<const bf16*>(rig.x), kRows,
                                                  kCols, kCols, kRows, kCols, gpu::Swizzle::kNone);
  gpu::launch(rig.stream,
              {.grid = 1, .block = kWarpgroup, .shared_bytes = 128 * kCols * sizeof(bf16)},
              product_of_unswizzled_box_kernel, rig.y, map);
}

void product_without_fence(const BugRig& rig) { multiply<ProductBug::kNoFence>(rig); }
void product_never_awaited(const BugRig& rig) { multiply<ProductBug::kNoWait>(rig); }
void product_awaited_too_little(const BugRig& rig) { multiply<ProductBug::kAwaitedTooLittle>(rig); }
void accumulators_written_too_early(const BugRig& rig) {
  multiply<ProductBug::kWrittenBeforeWait>(rig);
}
void narrow_accumulators_written_too_early(const BugRig& rig) {
  gpu::launch(rig.stream,
              {.grid = 1, .block = kWarpgroup, .shared_bytes = 64 * kCols * sizeof(bf16)},
              narrow_product_kernel, rig.y);
}
void wide_accumulators_written_too_early(const BugRig& rig) {
  gpu::launch(rig.stream,
              {.grid = 1, .block = kWarpgroup, .shared_bytes = 256 * kCols * sizeof(bf16)},
              wide_product_kernel, rig.y);
}
void operand_registers_changed(const BugRig& rig) { multiply<ProductBug::kChangedA>(rig); }
void stores_without_proxy_fence(const BugRig& rig) { multiply<ProductBug::kNoProxyFence>(rig); }
void operand_stored_too_early(const BugRig& rig) { multiply<ProductBug::kStoredTooEarly>(rig); }
void operand_off_the_swizzle(const BugRig& rig) { multiply<ProductBug::kOffTheSwizzle>(rig); }
void product_without_one_warp(const BugRig& rig) { multiply<ProductBug::kOneWarpMissing>(rig); }
void warps_of_different_products(const BugRig& rig) { multiply<ProductBug::kOtherOperand>(rig); }

void turn_not_awaited(const BugRig& rig) { take_turns<TurnBug::kNoWait>(rig); }
void turn_awaited_without_barrier(const BugRig& rig) { take_turns<TurnBug::kNoBarrier>(rig); }
void turn_passed_on_too_early(const BugRig& rig) { take_turns<TurnBug::kReleasedTooEarly>(rig); }
void turn_of_a_later_block(const BugRig& rig) { take_turns<TurnBug::kOfLaterBlock>(rig); }
void turn_of_the_block_before(const BugRig& rig) { take_turns<TurnBug::kOfBlockBefore>(rig); }
void misaligned_sum(const BugRig& rig) { take_turns<TurnBug::kMisaligned>(rig); }

void arrival_before_cluster_barrier(const BugRig& rig) {
  fetch_for_two<ClusterBug::kNoClusterBarrier>(rig);
}
void release_to_one_block_only(const BugRig& rig) {
  fetch_for_two<ClusterBug::kOwnReleaseOnly>(rig);
}
void release_to_another_block_too_early(const BugRig& rig) {
  fetch_for_two<ClusterBug::kReleasedTooEarly>(rig);
}
void half_of_a_cluster_announced(const BugRig& rig) {
  fetch_for_two<ClusterBug::kHalfOfTheBytes>(rig);
}
void exit_before_last_arrival(const BugRig& rig) { fetch_for_two<ClusterBug::kExitsEarly>(rig); }
void box_outside_the_cluster(const BugRig& rig) { fetch_for_two<ClusterBug::kBoxForAThird>(rig); }
void arrival_outside_the_cluster(const BugRig& rig) {
  fetch_for_two<ClusterBug::kArrivalInAThird>(rig);
}
void exit_before_cluster_barrier(const BugRig& rig) {
  fetch_for_two<ClusterBug::kWarpGoneBeforeBarrier>(rig);
}
void arrival_taken_for_a_fence(const BugRig& rig) {
  gpu::launch(rig.stream, {.grid = 2, .block = 32, .cluster = 2}, passing_global_memory_kernel,
              rig.y);
}
void order_of_blocks_in_a_cluster(const BugRig& rig) {
  auto* const drawn = reinterpret_cast<int32_t*>(rig.y + 32);
  cudaMemsetAsync(drawn, 0, sizeof *drawn, rig.stream);
  gpu::launch(rig.stream, {.grid = 2, .block = 32, .cluster = 2}, drawn_numbers_kernel, rig.y,
              drawn);
}
void box_to_ended_block(const BugRig& rig) {
  const gpu::TensorMap map =
      gpu::make_tensor_map(reinterpret_cast<const bf16*>(rig.x), kRows, kCols, kCols, kRows, kCols);
  gpu::launch(rig.stream, {.grid = 2, .block = 32, .shared_bytes = 2 * kBoxBytes, .cluster = 2},
              box_to_ended_block_kernel, rig.y, map);
}
void cluster_that_is_not_whole(const BugRig& rig) {
  gpu::launch(rig.stream, {.grid = 3, .block = 32, .cluster = 2}, passing_global_memory_kernel,
              rig.y);
}
void cluster_too_large(const BugRig& rig) {
  gpu::launch(rig.stream, {.grid = 9, .block = 32, .cluster = 9}, passing_global_memory_kernel,
              rig.y);
}
void turn_in_a_cluster(const BugRig& rig) { take_turns<TurnBug::kNoWait>(rig, 2); }

void third_reader(const BugRig& rig) {
  gpu::launch(rig.stream, {.grid = 1, .block = 128}, third_reader_kernel, rig.y);
}

void too_many_registers(const BugRig& rig) {
  gpu::launch(rig.stream, {.grid = 1, .block = 3 * kWarpgroup}, too_many_registers_kernel, rig.y);
}
#if defined(FACET_EMULATED)
void odd_registers(const BugRig& rig) {
  gpu::launch(rig.stream, {.grid = 1, .block = kWarpgroup}, odd_registers_kernel, rig.y);
}
#endif

}  // namespace facet::kernel_test::bugs
