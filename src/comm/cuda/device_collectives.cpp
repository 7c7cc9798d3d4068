#include "comm/cuda/device_collectives.h"

#include <array>
#include <map>

#include "base/check.h"
#include "base/log.h"
#include "comm/cuda/lone_transport.h"
#include "comm/cuda/staged_transport.h"
#include "comm/mpi_calls.h"
#include "comm/mpi_session.h"

#if defined(FACET_NCCL) || defined(FACET_EMULATED)
#include "comm/cuda/nccl_transport.h"
#endif

namespace facet {
namespace {

#if defined(FACET_NCCL) || defined(FACET_EMULATED)
constexpr bool kNcclBuiltIn = true;
std::unique_ptr<DeviceTransport> make_nccl(const Communicator& world, const Stream& compute) {
  return std::make_unique<NcclTransport>(world.handle(), compute);
}
#else
constexpr bool kNcclBuiltIn = false;
std::unique_ptr<DeviceTransport> make_nccl(const Communicator&, const Stream&) { return nullptr; }
#endif

// NCCL identifies GPUs by the same two.
std::string my_gpu() {
  int device = 0;
  std::array<char, 64> address{};
  check_cuda(cudaGetDevice(&device), "no current GPU");
  check_cuda(cudaDeviceGetPCIBusId(address.data(), static_cast<int>(address.size()), device),
             "cannot get the GPU's address");
  return host_name() + " " + address.data();
}

}  // namespace

std::string shared_gpu(const std::vector<std::string>& gpus) {
  std::map<std::string, size_t> first;
  for (size_t rank = 0; rank < gpus.size(); ++rank) {
    const auto [found, is_new] = first.emplace(gpus[rank], rank);
    if (!is_new)
      return fmt::format("ranks {} and {} share the GPU {}", found->second, rank, gpus[rank]);
  }
  return "";
}

ChosenCollectives choose_device_collectives(Communicator& world, DeviceCollectives wish) {
  const std::string shared = shared_gpu(world.all_gather(my_gpu()));
  std::string obstacle;  // why NCCL cannot be used
  if (!kNcclBuiltIn)
    obstacle = "the program was built without NCCL";
  else if (!shared.empty())
    obstacle = shared;
  if (wish == DeviceCollectives::kNccl && !obstacle.empty())
    throw CollectiveError(
        ExitCode::kConfig,
        fmt::format("--device_collectives nccl: {}; leave the option out or give each rank a GPU",
                    obstacle));
  using Way = ChosenCollectives::Way;
  if (wish == DeviceCollectives::kAuto && world.size() == 1)
    return {Way::kNone, "none, there is one rank"};
  const bool asked = wish == DeviceCollectives::kMpi;
  if (!asked && obstacle.empty()) return {Way::kNccl, "NCCL, one GPU per rank"};
  return {Way::kMpi,
          fmt::format("MPI, staged through host memory, {}", asked ? "as asked for" : obstacle)};
}

std::unique_ptr<DeviceTransport> make_device_transport(const Communicator& world,
                                                       const Stream& compute,
                                                       const ChosenCollectives& chosen) {
  using Way = ChosenCollectives::Way;
  if (chosen.way == Way::kNone) return std::make_unique<LoneTransport>(compute);
  if (chosen.way == Way::kNccl) return make_nccl(world, compute);
  return std::make_unique<StagedTransport>(world.handle(), compute);
}

std::unique_ptr<DeviceTransport> make_device_transport(Communicator& world, const Stream& compute,
                                                       DeviceCollectives wish) {
  const ChosenCollectives chosen = choose_device_collectives(world, wish);
  log("collectives of tensors on the GPUs: {}", chosen.text);
  return make_device_transport(world, compute, chosen);
}

}  // namespace facet
