// Shared memory of the running block, and of the others of its cluster, where an array lies at the
// same place. Every array is placed between guard bands, aligned no more than requested, and starts
// with NaNs in every block; it is allocated at its first use in a cluster.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulated/device/memory.h"
#include "emulated/device/site.h"

namespace facet::emulated {

// One per GPU_SHARED in the source; holds the array of the running block.
struct SharedSlot {
  void* data;  // in the cluster's first block
  uint64_t cluster_serial;
};
void* static_shared_array(SharedSlot& slot, size_t bytes, size_t alignment,
                          Site where = Site::current());

// The index-th array that the threads take from the dynamic shared memory of the launch, which
// begins at `offset` of it.
void* dynamic_shared_array(size_t index, size_t offset, size_t bytes, Site where,
                           size_t alignment = 16);

constexpr size_t kSwizzlePeriod = 1024;  // of the 128-byte swizzle: eight rows

AddressRange shared_range();  // of the running block
AddressRange shared_range_of_all_blocks();
// The place in a block of the cluster that corresponds to this one in any of them.
void* in_block(const void* place, unsigned block);
unsigned block_of(const void* place);

// Lives from the start to the end of a cluster.
class SharedMemoryOfCluster {
 public:
  SharedMemoryOfCluster() = default;
  ~SharedMemoryOfCluster();
  SharedMemoryOfCluster(const SharedMemoryOfCluster&) = delete;
  SharedMemoryOfCluster& operator=(const SharedMemoryOfCluster&) = delete;
  void check_guards() const;
};

}  // namespace facet::emulated
