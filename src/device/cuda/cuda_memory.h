// GPU memory.
#pragma once

#include <cstdint>
#include <string>

#include "device/cuda/stream.h"
#include "device/memory_resource.h"

namespace facet {

class CudaMemory final : public MemoryResource {
 public:
  // `stream` is the one that uses the allocated memory; it must outlive this.
  explicit CudaMemory(const Stream& stream) : stream_(stream) {}

  Space space() const override { return Space::kDevice; }
  void* allocate(int64_t bytes, const std::string& purpose) override;
  // Waits for the whole device, as cudaFree does. Throws nothing.
  void free(void* data, int64_t bytes) override;
  void zero(void* data, int64_t bytes) override;
  void forget(void* data, int64_t bytes) override;

 private:
  const Stream& stream_;
};

}  // namespace facet
