#include "train/compute_device.h"

#include "device/memory_advice.h"
#include "kernels/cpu/backend.h"
#include "train/cuda/gpu.h"
#include "train/model_setup.h"
#include "train/threads.h"

namespace facet {

namespace {

ProductAlgorithms products_of(Backend& gpu, const Options& options) {
  return {
      .kind = product_kind(),
      .time = [&gpu, options] { time_products(gpu, options); },
      .choices = [&gpu] { return product_choices(gpu); },
      .take = [&gpu](const std::string& choices) { return take_product_choices(gpu, choices); }};
}

ComputeDevice on_gpu(const Options& options, OpenGpu gpu, int threads) {
  Backend& backend = *gpu.backend;
  ComputeDevice device(std::move(gpu.backend), ComputeDevice::Takes::kEveryType,
                       {.threads = threads,
                        .gpu = std::move(gpu.name),
                        .peak_flops = peak_flops_of_gpu(compute_dtype(options)),
                        .wait = [&backend] { wait_for_gpu(backend); },
                        .products = products_of(backend, options)});
  if (options.offloads_optimizer())
    device.offload_to(std::make_unique<CpuBackend>(threads), open_host_copies(backend));
  return device;
}

}  // namespace

void advise_on_memory(const char* advice) { set_memory_advice(advice); }

ComputeDevice open_compute_device(const Options& options, Communicator& world,
                                  const std::string& host) {
  const int threads = choose_threads(world, host, options.threads);
  if (options.on_gpu()) return on_gpu(options, open_gpu(options, world, host), threads);
  return {std::make_shared<CpuBackend>(threads), ComputeDevice::Takes::kFp32, {.threads = threads}};
}

std::string connect(const Options& options, Communicator& part, ComputeDevice& device) {
  return options.on_gpu() ? connect_gpu(options, part, device.plain()) : "mpi";
}

}  // namespace facet
