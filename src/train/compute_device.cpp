#include "train/compute_device.h"

#include "kernels/cpu/backend.h"
#include "train/cuda/gpu.h"
#include "train/model_setup.h"
#include "train/threads.h"

namespace facet {

namespace {

ComputeDevice on_gpu(const Options& options, std::shared_ptr<Backend> gpu) {
  Backend& backend = *gpu;
  return {std::move(gpu), ComputeDevice::Takes::kEveryType,
          peak_flops_of_gpu(compute_dtype(options)), [&backend] { wait_for_gpu(backend); }};
}

}  // namespace

ComputeDevice open_compute_device(const Options& options, Communicator& world,
                                  const std::string& host) {
  const int threads = choose_threads(world, host, options.threads);
  if (options.on_gpu()) return on_gpu(options, open_gpu(options, world, host));
  return {std::make_shared<CpuBackend>(threads), ComputeDevice::Takes::kFp32};
}

}  // namespace facet
