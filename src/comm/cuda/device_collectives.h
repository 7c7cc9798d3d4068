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
  kAuto,  // NCCL if built in and every rank has its own GPU, else MPI
  kNccl,
  kMpi,
};

// Collective; logs what was chosen and why. Throws Error(kConfig) if NCCL was asked for and cannot
// be used. The stream must outlive the transport.
std::unique_ptr<DeviceTransport> make_device_transport(Communicator& world, const Stream& compute,
                                                       DeviceCollectives choice);

// gpus: per rank, a name that is unique to its GPU in the job. Returns "ranks 0 and 2 share the GPU
// NAME", or an empty string.
std::string shared_gpu(const std::vector<std::string>& gpus);

}  // namespace facet
