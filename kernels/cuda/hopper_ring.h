// Shared by the kernels for Hopper. A block is a warpgroup that fetches by TMA and two, the
// consumers, that multiply 64 rows each of what comes through rings of tiles in shared memory.
#pragma once

#include "kernels/cuda/fragments.h"
#include "kernels/gpu_hopper.h"

namespace facet::cuda::hopper {

using mma::lane_of_thread;

constexpr int kConsumers = 2;  // warpgroups
constexpr int kThreads = (1 + kConsumers) * gpu::kWarpgroupSize;
constexpr int kConsumerWarps = kConsumers * gpu::kWarpgroupSize / gpu::kWarpSize;
constexpr int kConsumerRows = 64;

// -1: the thread fetches.
GPU_DEVICE int consumer_of_thread() {
  return static_cast<int>(threadIdx.x / unsigned{gpu::kWarpgroupSize}) - 1;
}

// The barriers of a ring of tiles.
template <int kStages>
struct Side {
  gpu::Barrier full[kStages], empty[kStages];
};
// By one thread. `arrivals` fill a tile; each warp of the consumers gives it back.
template <int kStages>
GPU_DEVICE void init_side(Side<kStages>& side, unsigned arrivals, unsigned warps = kConsumerWarps) {
  for (int s = 0; s < kStages; ++s) {
    gpu::init_barrier(side.full[s], arrivals);
    gpu::init_barrier(side.empty[s], warps);
  }
}

// The next stage of a side, and the parity of its phase.
template <int kStages>
struct RingPlace {
  int stage = 0;
  unsigned parity = 0;

  GPU_DEVICE void advance() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }
  GPU_DEVICE int stage_before() const { return stage == 0 ? kStages - 1 : stage - 1; }
};

// For the thread that fetches.
template <int kStages>
GPU_DEVICE void wait_until_empty(Side<kStages>& side, const RingPlace<kStages>& place) {
  gpu::wait_barrier(side.empty[place.stage], place.parity ^ 1);
}
// For consumers.
template <int kStages>
GPU_DEVICE void wait_until_full(Side<kStages>& side, const RingPlace<kStages>& place) {
  gpu::wait_barrier(side.full[place.stage], place.parity);
}
template <int kStages>
GPU_DEVICE void release(Side<kStages>& side, int stage) {
  if (lane_of_thread() == 0) gpu::arrive(side.empty[stage]);
}
template <int kStages>
GPU_DEVICE void skip(Side<kStages>& side, RingPlace<kStages>& place) {
  wait_until_full(side, place);
  __syncwarp();  // so that no lane waits for a phase that is long over
  release(side, place.stage);
  place.advance();
}

}  // namespace facet::cuda::hopper
