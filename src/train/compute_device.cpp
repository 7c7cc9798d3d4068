#include "train/compute_device.h"

#include "kernels/cpu/backend.h"
#include "train/cuda/gpu.h"
#include "train/threads.h"

namespace facet {

ComputeDevice open_compute_device(const Options& options, Communicator& world,
                                  const std::string& host) {
  const int threads = choose_threads(world, host, options.threads);
  if (options.on_gpu()) return {open_gpu(options, world, host), ComputeDevice::Takes::kEveryType};
  return {std::make_shared<CpuBackend>(threads), ComputeDevice::Takes::kFp32};
}

std::string connect(const Options& options, Communicator& part, ComputeDevice& device) {
  return options.on_gpu() ? connect_gpu(options, part, device.plain()) : "mpi";
}

}  // namespace facet
