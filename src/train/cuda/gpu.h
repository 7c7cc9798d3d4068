// The GPU of a rank. without_gpu.cpp takes the place of gpu.cpp in a build without CUDA.
#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"
#include "ops/ops.h"
#include "options/options.h"

namespace facet {

// Chooses this rank's GPU among those of its host, opens it, and gives the communicator a transport
// from GPU to GPU for as long as the result lives. Collective; throws CollectiveError where there
// is none.
std::shared_ptr<Backend> open_gpu(const Options& options, Communicator& world,
                                  const std::string& host);

// Gives another communicator, of some of those ranks, such a transport as well. Returns its name.
// Collective over `part`, which must not outlive the GPU.
std::string connect_gpu(const Options& options, Communicator& part, Backend& gpu);

// For --version: the CUDA libraries that this program was built with.
std::string gpu_version_text();

}  // namespace facet
