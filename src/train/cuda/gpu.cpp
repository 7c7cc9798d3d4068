#include "train/cuda/gpu.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/log.h"
#include "comm/cuda/device_collectives.h"
#include "comm/mpi_session.h"
#include "device/cuda/architectures.h"
#include "device/cuda/stream.h"
#include "kernels/cuda/backend.h"

namespace facet {
namespace {

constexpr int kOldestMajor = 8;  // the kernels' tensor core instructions and cp.async

// This rank's number among those of its host.
int place_on_host(Communicator& world, const std::string& host) {
  const std::vector<std::string> hosts = world.all_gather(host);
  return static_cast<int>(std::count(hosts.begin(), hosts.begin() + world.rank(), host));
}

// Makes it the current GPU of the calling thread. Returns what it is.
std::string choose_gpu(int place_on_host) {
  int gpus = 0;
  const cudaError_t error = cudaGetDeviceCount(&gpus);
  CHECK(error == cudaSuccess && gpus > 0, ExitCode::kConfig,
        "--device cuda: no GPU can be used here ({}); does `nvidia-smi` show one, and does the job "
        "ask for GPUs (Slurm: --gpus-per-node)?",
        error == cudaSuccess ? "the driver shows none" : cudaGetErrorString(error));
  const int gpu = place_on_host % gpus;
  check_cuda(cudaSetDevice(gpu), "the GPU cannot be opened");
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, gpu), "the GPU says nothing about itself");
  CHECK(properties.major >= kOldestMajor, ExitCode::kConfig,
        "--device cuda: GPU {} is a {} of compute capability {}.{}; {}.0 or newer is needed", gpu,
        properties.name, properties.major, properties.minor, kOldestMajor);
  return fmt::format("{}, compute capability {}.{}", properties.name, properties.major,
                     properties.minor);
}

DeviceCollectives collectives_of(const Options& options) {
  if (options.device_collectives == "nccl") return DeviceCollectives::kNccl;
  return options.device_collectives == "mpi" ? DeviceCollectives::kMpi : DeviceCollectives::kAuto;
}

}  // namespace

std::shared_ptr<Backend> open_gpu(const Options& options, Communicator& world,
                                  const std::string& host) {
  const int place = place_on_host(world, host);
  std::string name;
  std::unique_ptr<CudaBackend> backend;
  collectively(world, [&] {
    name = choose_gpu(place);
    backend = std::make_unique<CudaBackend>();
  });
  log("GPU of rank 0: {}", name);
  world.use(make_device_transport(world, backend->stream(), collectives_of(options)));
  return {backend.release(), [&world](Backend* computes) {
            world.use(nullptr);
            delete computes;
          }};
}

std::string connect_gpu(const Options& options, Communicator& part, Backend& gpu) {
  const Stream& stream = dynamic_cast<CudaBackend&>(gpu).stream();
  const ChosenCollectives chosen = choose_device_collectives(part, collectives_of(options));
  part.use(make_device_transport(part, stream, chosen));
  return chosen.nccl ? "nccl" : "mpi-staged";
}

std::string gpu_version_text() { return kCudaArchitectures; }

}  // namespace facet
