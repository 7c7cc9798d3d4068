// The GPU of a rank. without_gpu.cpp takes the place of gpu.cpp in a build without CUDA.
#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"
#include "ops/ops.h"
#include "options/options.h"

namespace facet {

struct OpenGpu {
  std::shared_ptr<Backend> backend;
  std::string name;  // "0 NVIDIA H200": its number on the host, of those that the process sees
};
// Chooses this rank's GPU among those of its host, opens it, and gives the communicator a transport
// from GPU to GPU for as long as the backend lives. Collective; throws CollectiveError where there
// is none.
OpenGpu open_gpu(const Options& options, Communicator& world, const std::string& host);

// For --version: the CUDA libraries that this program was built with.
std::string gpu_version_text();

}  // namespace facet
