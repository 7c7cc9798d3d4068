// Shared memory of the running block. Every array lies alone between guard bands, only as aligned
// as was asked for, and starts with NaNs in every block; its first use in a block makes it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulated/device/memory.h"
#include "emulated/device/site.h"

namespace facet::emulated {

// One for every GPU_SHARED in the source; remembers the array of the running block.
struct SharedSlot {
  void* data;
  uint64_t block_serial;
};
void* static_shared_array(SharedSlot& slot, size_t bytes, size_t alignment,
                          Site where = Site::current());

// The index-th array that the threads take from the dynamic shared memory of the launch, which
// begins at `offset` of it and on a 16-byte boundary.
void* dynamic_shared_array(size_t index, size_t offset, size_t bytes, Site where);

AddressRange shared_range();

// From the start of a block to its end.
class SharedMemoryOfBlock {
 public:
  SharedMemoryOfBlock();
  ~SharedMemoryOfBlock();
  SharedMemoryOfBlock(const SharedMemoryOfBlock&) = delete;
  SharedMemoryOfBlock& operator=(const SharedMemoryOfBlock&) = delete;
  void check_guards() const;
};

}  // namespace facet::emulated
