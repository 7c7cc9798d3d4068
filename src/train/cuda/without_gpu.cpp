// What a program built without CUDA says about GPUs.
#include "comm/mpi_session.h"
#include "train/cuda/gpu.h"

namespace facet {

OpenGpu open_gpu(const Options&, Communicator&, const std::string&) {
  throw CollectiveError(ExitCode::kConfig,
                        "--device cuda: this program was built without CUDA; build it where nvcc "
                        "(12.0 or newer) is on the PATH, or give --device cpu");
}

double peak_flops_of_gpu(DType) { return 0; }

void wait_for_gpu(Backend&) {}
std::string connect_gpu(const Options&, Communicator&, Backend&) {
  fail(ExitCode::kInternal, "there is no GPU to connect");
}

std::unique_ptr<HostCopies> open_host_copies(Backend&) {
  fail(ExitCode::kInternal, "there is no GPU to copy from");
}

void time_products(Backend&, const Options&) {
  fail(ExitCode::kInternal, "there is no GPU to time");
}
std::string product_choices(Backend&) { return ""; }
int64_t take_product_choices(Backend&, const std::string&) { return 0; }
std::string product_kind() { return ""; }

std::string gpu_version_text() { return "none: built without nvcc"; }

}  // namespace facet
