// What tests ask of the device they run on. A test program is linked with one of the answers:
// emulation.cpp or gpu.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace facet::device_test {

// Whether something looks at every access, which makes kernels slow. On a GPU that is
// compute-sanitizer, and FACET_COMPUTE_SANITIZER in the environment says so.
bool every_access_is_watched();

// An array in device memory between guards, all bits of it set at first: every number is a NaN. A
// damaged guard is a failure of the test. Under compute-sanitizer nothing is written and nothing
// surrounds it, so that the tools see what kernels read and where arrays end.
void* allocate_array(size_t bytes);
void free_array(void* array, size_t bytes);

// Kernels and matrix products given to the device, waits of the host for work that was not done,
// copies to host memory that is not page-locked (CUDA makes the host wait for these), and memory
// taken, of the device or page-locked, since the process began. A GPU does not say: -1.
struct HostCalls {
  int64_t launches = -1, waits = -1, pageable_copies = -1, allocations = -1;
};
HostCalls host_calls();

// The order in which the threads of a block run from here on: 0 forward, 1 reverse, then random
// ones. A GPU has orders of its own.
void set_thread_order(int order);
// One warp of each block, or one block of each cluster, goes on only when nothing else can, until
// set_thread_order(). The warps of a cluster's blocks are numbered through. A GPU does as it does.
void delay_warp(int warp);
void delay_block(int block);

// When work on streams runs from here on: as soon as it is given, as late as events and
// synchronisations allow, or between. A GPU decides that by itself.
void run_streams_at_once();
void run_streams_late();
void run_streams_at_random(uint64_t seed);

// Calls body() once in every order of threads, `random_orders` of them random. A GPU runs it as
// often: what body() compares must not depend on the run.
template <typename Body>
void for_thread_orders(int random_orders, const Body& body) {
  for (int order = 0; order < 2 + random_orders; ++order) {
    set_thread_order(order);
    body();
  }
  set_thread_order(0);
}

// The same after a run in the forward order: once in the reverse order, and once in a random one,
// unless every access is watched: what watches sees an access, and what it is not ordered with, in
// any order.
template <typename Body>
void for_other_thread_orders(const Body& body) {
  const int last = every_access_is_watched() ? 1 : 2;
  for (int order = 1; order <= last; ++order) {
    set_thread_order(order);
    body();
  }
  set_thread_order(0);
}

}  // namespace facet::device_test
