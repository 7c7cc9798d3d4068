#include "train/compute_device.h"

#include "kernels/cpu/backend.h"
#include "train/cuda/gpu.h"
#include "train/threads.h"

namespace facet {

ComputeDevice open_compute_device(const Options& options, Communicator& world,
                                  const std::string& host) {
  const int threads = choose_threads(world, host, options.threads);
  if (options.on_gpu()) {
    OpenGpu gpu = open_gpu(options, world, host);
    return {std::move(gpu.backend), ComputeDevice::Takes::kEveryType, {threads, gpu.name}};
  }
  return {std::make_shared<CpuBackend>(threads), ComputeDevice::Takes::kFp32, {threads, ""}};
}

}  // namespace facet
