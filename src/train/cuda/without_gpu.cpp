// What a program built without CUDA says about GPUs.
#include "comm/mpi_session.h"
#include "train/cuda/gpu.h"

namespace facet {

std::shared_ptr<Backend> open_gpu(const Options&, Communicator&, const std::string&) {
  throw CollectiveError(ExitCode::kConfig,
                        "--device cuda: this program was built without CUDA; build it where nvcc "
                        "(12.0 or newer) is on the PATH, or give --device cpu");
}

std::string connect_gpu(const Options&, Communicator&, Backend&) {
  fail(ExitCode::kInternal, "there is no GPU to connect");
}

std::string gpu_version_text() { return "none: built without nvcc"; }

}  // namespace facet
