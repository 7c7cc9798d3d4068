// Chooses the DeviceTransport of a job.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/device_transport.h"
#include "device/cuda/stream.h"

namespace facet {

enum class DeviceCollectives : uint8_t {
  kAuto,  // none for one rank; NCCL if built in and every rank has its own GPU, else MPI
  kNccl,
  kMpi,
};

struct ChosenCollectives {
  enum class Way : uint8_t { kNone, kNccl, kMpi };  // kNone: one rank alone
  Way way = Way::kNone;
  std::string text;  // which, and why
};
// The same on all ranks. Collective; throws CollectiveError(kConfig) if NCCL was asked for and
// cannot be used.
ChosenCollectives choose_device_collectives(Communicator& world, DeviceCollectives wish);
// Collective. The stream must outlive the transport.
std::unique_ptr<DeviceTransport> make_device_transport(const Communicator& world,
                                                       const Stream& compute,
                                                       const ChosenCollectives& chosen);

// Both; logs what was chosen.
std::unique_ptr<DeviceTransport> make_device_transport(Communicator& world, const Stream& compute,
                                                       DeviceCollectives wish);

// gpus: per rank, a name that is unique to its GPU in the job. Returns "ranks 0 and 2 share the GPU
// NAME", or an empty string.
std::string shared_gpu(const std::vector<std::string>& gpus);

}  // namespace facet
