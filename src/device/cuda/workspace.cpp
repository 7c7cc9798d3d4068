#include "device/cuda/workspace.h"

#include <algorithm>

#include "base/check.h"
#include "device/memory_advice.h"

namespace facet {

Workspace::~Workspace() { free(); }

// Freed in stream order: earlier work still uses the memory.
void Workspace::free() {
  if (data_) cudaFreeAsync(data_, stream_);
  data_ = nullptr;
}

void* Workspace::take_bytes(int64_t bytes) {
  ASSERT(bytes > 0, "a workspace of {} bytes", bytes);
  if (bytes > capacity_) {
    free();
    const int64_t capacity = growth_ == Growth::kExact ? bytes : std::max(bytes, 2 * capacity_);
    capacity_ = 0;
    const cudaError_t error = cudaMallocAsync(&data_, static_cast<size_t>(capacity), stream_);
    CHECK(error == cudaSuccess, ExitCode::kConfig,
          "cannot allocate {:.1f} MiB of device memory for a workspace: {}; {}",
          static_cast<double>(capacity) / 1048576.0, cudaGetErrorString(error), memory_advice());
    capacity_ = capacity;
  } else {
    forget_content(data_, capacity_, stream_);
  }
  return data_;
}

}  // namespace facet
