#include "device/cuda/page_lock.h"

#include "base/check.h"
#include "device/cuda_runtime.h"

namespace facet {

void* page_lock(int64_t bytes, std::string_view purpose, std::string_view advice) {
  void* data = nullptr;
  const cudaError_t error = cudaMallocHost(&data, static_cast<size_t>(bytes));
  CHECK(error == cudaSuccess, ExitCode::kConfig,
        "cannot page-lock {:.1f} MiB of host memory for {}: {}; the job needs that much beside the "
        "rest on this host for each of its ranks (Slurm: --mem), and `ulimit -l` must allow it{}",
        static_cast<double>(bytes) / 1048576.0, purpose, cudaGetErrorString(error), advice);
  return data;
}

}  // namespace facet
