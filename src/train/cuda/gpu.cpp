#include "train/cuda/gpu.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/log.h"
#include "comm/cuda/device_collectives.h"
#include "comm/mpi_session.h"
#include "device/cuda/architectures.h"
#include "device/cuda/copy_streams.h"
#include "device/cuda/stream.h"
#include "kernels/cuda/backend.h"
#include "train/peak_flops.h"

namespace facet {
namespace {

constexpr int kOldestMajor = 8;  // the kernels' tensor core instructions and cp.async

// This rank's number among those of its host.
int place_on_host(Communicator& world, const std::string& host) {
  const std::vector<std::string> hosts = world.all_gather(host);
  return static_cast<int>(std::count(hosts.begin(), hosts.begin() + world.rank(), host));
}

struct ChosenGpu {
  int number = 0;
  cudaDeviceProp is{};
};

// Makes it the current GPU of the calling thread.
ChosenGpu choose_gpu(int place_on_host) {
  int gpus = 0;
  const cudaError_t error = cudaGetDeviceCount(&gpus);
  CHECK(error == cudaSuccess && gpus > 0, ExitCode::kConfig,
        "--device cuda: no GPU can be used here ({}); does `nvidia-smi` show one, and does the job "
        "ask for GPUs (Slurm: --gpus-per-node)?",
        error == cudaSuccess ? "the driver shows none" : cudaGetErrorString(error));
  ChosenGpu gpu{.number = place_on_host % gpus};
  check_cuda(cudaSetDevice(gpu.number), "the GPU cannot be opened");
  check_cuda(cudaGetDeviceProperties(&gpu.is, gpu.number), "the GPU says nothing about itself");
  CHECK(gpu.is.major >= kOldestMajor, ExitCode::kConfig,
        "--device cuda: GPU {} is a {} of compute capability {}.{}; {}.0 or newer is needed",
        gpu.number, gpu.is.name, gpu.is.major, gpu.is.minor, kOldestMajor);
  return gpu;
}

DeviceCollectives collectives_of(const Options& options) {
  if (options.device_collectives == "nccl") return DeviceCollectives::kNccl;
  return options.device_collectives == "mpi" ? DeviceCollectives::kMpi : DeviceCollectives::kAuto;
}

}  // namespace

OpenGpu open_gpu(const Options& options, Communicator& world, const std::string& host) {
  const int place = place_on_host(world, host);
  ChosenGpu gpu;
  std::unique_ptr<CudaBackend> backend;
  collectively(world, [&] {
    gpu = choose_gpu(place);
    backend = std::make_unique<CudaBackend>();
    if (options.attention == "cudnn") backend->take_cudnn();
    backend->join_attention(options.attention_backward == "joint");
    backend->join_lora(options.lora_products == "fused");
    if (options.lora_products == "timed") backend->choose_lora();
  });
  log("GPU of rank 0: {}, compute capability {}.{}", gpu.is.name, gpu.is.major, gpu.is.minor);
  world.use(make_device_transport(world, backend->stream(), collectives_of(options)));
  const auto close = [&world](Backend* computes) {
    world.use(nullptr);
    delete computes;
  };
  return {std::shared_ptr<Backend>(backend.release(), close),
          fmt::format("{} {}", gpu.number, gpu.is.name)};
}

double peak_flops_of_gpu(DType dtype) {
  int gpu = 0, multiprocessors = 0, kilohertz = 0;
  cudaDeviceProp properties{};
  const bool told = cudaGetDevice(&gpu) == cudaSuccess &&
                    cudaGetDeviceProperties(&properties, gpu) == cudaSuccess &&
                    cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, gpu) ==
                        cudaSuccess &&
                    cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, gpu) == cudaSuccess;
  if (!told) return 0;
  return peak_flops({properties.major, properties.minor, multiprocessors, 1e3 * kilohertz}, dtype);
}

void wait_for_gpu(Backend& backend) { static_cast<CudaBackend&>(backend).synchronize(); }

std::unique_ptr<HostCopies> open_host_copies(Backend& gpu) {
  return std::make_unique<CopyStreams>(dynamic_cast<CudaBackend&>(gpu).stream());
}

namespace {
cuda::LinearProducts& products_of(Backend& gpu) {
  return dynamic_cast<CudaBackend&>(gpu).products();
}
}  // namespace

void time_products(Backend& gpu, const Options& options) {
  dynamic_cast<CudaBackend&>(gpu).time_products(options.product_algorithms == "timed");
}

std::string product_choices(Backend& gpu) { return products_of(gpu).choices().text(); }

int64_t take_product_choices(Backend& gpu, const std::string& text) {
  cuda::ProductChoices choices = cuda::ProductChoices::parse(text);
  const int64_t taken = choices.size();
  products_of(gpu).take_choices(std::move(choices));
  return taken;
}

std::string product_kind() { return cuda::ProductChoices::kind(); }

std::string connect_gpu(const Options& options, Communicator& part, Backend& gpu) {
  const Stream& stream = dynamic_cast<CudaBackend&>(gpu).stream();
  const ChosenCollectives chosen = choose_device_collectives(part, collectives_of(options));
  part.use(make_device_transport(part, stream, chosen));
  using Way = ChosenCollectives::Way;
  return chosen.way == Way::kNccl ? "nccl" : chosen.way == Way::kMpi ? "mpi-staged" : "none";
}

std::string gpu_version_text() { return kCudaArchitectures; }

}  // namespace facet
