#include "device/cuda_runtime.h"
#include "emulated/device/memory.h"
#include "emulated/device/observer.h"
#include "emulated/device/page_locked.h"
#include "emulated/device/stream.h"
#include "emulated/kernels/executor.h"
#include "tests/device/cuda/device_under_test.h"
#include "tests/device/cuda/hopper_device.h"

namespace facet::device_test {

using emulated::Lateness;
using emulated::ThreadOrder;

bool every_access_is_watched() {
#if defined(__SANITIZE_ADDRESS__)
  return true;
#else
  return emulated::observer() != nullptr;
#endif
}

void* allocate_array(size_t bytes) {
  void* array = nullptr;
  cudaMalloc(&array, bytes);
  return array;
}

// After an error the device may have been reset, and a planted bug frees what it was given.
void free_array(void* array, size_t) {
  if (emulated::find_allocation(array)->state == emulated::Allocation::State::kLive)
    cudaFree(array);
}

HostCalls host_calls() {
  const emulated::HostCalls& calls = emulated::host_calls();
  return {calls.launches, calls.waits, emulated::pageable_copies(),
          emulated::allocations_made() + emulated::page_locked_allocations()};
}

HopperDevice::HopperDevice() : is_here_(true) {
  emulated::set_compute_capability({.major = 9, .minor = 0});
}
HopperDevice::~HopperDevice() { emulated::set_compute_capability({}); }

void set_thread_order(int order) {
  const auto kind = order == 0   ? ThreadOrder::kForward
                    : order == 1 ? ThreadOrder::kReverse
                                 : ThreadOrder::kRandom;
  emulated::set_execution_order({kind, static_cast<uint64_t>(order < 2 ? 1 : order - 1)});
}

void delay_warp(int warp) {
  emulated::set_execution_order(
      {.order = ThreadOrder::kLateWarp, .late_warp = static_cast<unsigned>(warp)});
}

void delay_block(int block) {
  emulated::set_execution_order(
      {.order = ThreadOrder::kLateBlock, .late_block = static_cast<unsigned>(block)});
}

void run_streams_at_once() { emulated::set_stream_policy({Lateness::kAtOnce, 1}); }
void run_streams_late() { emulated::set_stream_policy({Lateness::kAsLateAsAllowed, 1}); }
void run_streams_at_random(uint64_t seed) {
  emulated::set_stream_policy({Lateness::kRandom, seed});
}

}  // namespace facet::device_test
