// Where arenas take their memory: from the host, or from a device.
#pragma once

#include <cstdint>
#include <string>

#include "device/tensor.h"

namespace facet {

class MemoryResource {
 public:
  virtual ~MemoryResource() = default;

  virtual Space space() const = 0;
  // `bytes` > 0, aligned to 64, content undefined; may be reserved only and taken page by page as
  // it is touched. Throws Error(kConfig) with the size and `purpose` when it can't be had.
  virtual void* allocate(int64_t bytes, const std::string& purpose) = 0;
  virtual void free(void* data, int64_t bytes) = 0;

  // Both in the order of the work on that memory: what was enqueued before is not concerned.
  virtual void zero(void* data, int64_t bytes) = 0;
  // The content is undefined from here on, as that of a piece of an arena between two uses. Builds
  // that look for mistakes destroy it.
  virtual void forget(void* data, int64_t bytes) = 0;
};

MemoryResource& host_memory();

}  // namespace facet
