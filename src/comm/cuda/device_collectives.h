// Which DeviceTransport a job uses.
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
  kAuto,  // NCCL where it is built in and every rank has a GPU of its own, else MPI
  kNccl,
  kMpi,
};

// Collective; says in one line of the log what was chosen and why. Throws Error(kConfig) where NCCL
// was asked for and cannot be. The stream must outlive all use of the transport.
std::unique_ptr<DeviceTransport> make_device_transport(Communicator& world, const Stream& compute,
                                                       DeviceCollectives choice);

// gpus: of each rank, a name that no other GPU of the job has. "ranks 0 and 2 share the GPU NAME",
// empty where none is shared.
std::string shared_gpu(const std::vector<std::string>& gpus);

}  // namespace facet
