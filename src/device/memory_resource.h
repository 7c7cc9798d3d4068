// Where arenas get their memory from: the host, or a device.
#pragma once

#include <cstdint>
#include <string>

#include "device/tensor.h"

namespace facet {

class MemoryResource {
 public:
  virtual ~MemoryResource() = default;

  virtual Space space() const = 0;
  // `bytes` > 0, aligned to 64, content undefined; may be only reserved, and committed page by page
  // on first touch. Throws Error(kConfig) with the size and `purpose` on failure.
  virtual void* allocate(int64_t bytes, const std::string& purpose) = 0;
  virtual void free(void* data, int64_t bytes) = 0;

  // Both in stream order: work enqueued earlier is not affected.
  virtual void zero(void* data, int64_t bytes) = 0;
  // Declares the content undefined, as when an arena reuses memory. Checked builds overwrite it.
  virtual void forget(void* data, int64_t bytes) = 0;
};

MemoryResource& host_memory();

}  // namespace facet
