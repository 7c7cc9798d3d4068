// The GPU of a rank. without_gpu.cpp stands in for gpu.cpp where the program is built without CUDA.
#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"
#include "ops/ops.h"
#include "options/options.h"

namespace facet {

// Chooses this rank's GPU among those of its host, opens it, and tells the communicator how tensors
// get from GPU to GPU, as long as the result lives. Collective; throws CollectiveError where
// there is none.
std::shared_ptr<Backend> open_gpu(const Options& options, Communicator& world,
                                  const std::string& host);

// For --version: what of CUDA this program was built with.
std::string gpu_version_text();

}  // namespace facet
