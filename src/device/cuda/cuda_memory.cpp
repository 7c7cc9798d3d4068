#include "device/cuda/cuda_memory.h"

#include "base/check.h"
#include "device/memory_advice.h"

namespace facet {

void* CudaMemory::allocate(int64_t bytes, const std::string& purpose) {
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, static_cast<size_t>(bytes));
  // Else the next kernel launch would report it, where a caller goes on with less memory.
  if (error != cudaSuccess) cudaGetLastError();
  CHECK(error == cudaSuccess, ExitCode::kConfig,
        "cannot allocate {:.1f} MiB of device memory for {}: {}; {}",
        static_cast<double>(bytes) / 1048576.0, purpose, cudaGetErrorString(error),
        memory_advice());
  return data;
}

// An error here comes from an earlier kernel: every later call returns it. It has been thrown where
// that kernel was waited for, and arenas are destroyed while it propagates.
void CudaMemory::free(void* data, int64_t) { static_cast<void>(cudaFree(data)); }

void CudaMemory::zero(void* data, int64_t bytes) {
  check_cuda(cudaMemsetAsync(data, 0, static_cast<size_t>(bytes), stream_), "cannot fill memory");
}

void CudaMemory::forget(void* data, int64_t bytes) { forget_content(data, bytes, stream_); }

}  // namespace facet
