// The GPU of a rank. without_gpu.cpp takes the place of gpu.cpp in a build without CUDA.
#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"
#include "device/host_copies.h"
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

// Operations a second that the GPU chosen last can do at most, on operands of that type; 0:
// unknown.
double peak_flops_of_gpu(DType dtype);

// Waits until what was asked of a backend that open_gpu() made is done.
void wait_for_gpu(Backend& backend);

// Page-locked memory of the host and copies from and to it, for as long as the backend lives.
std::unique_ptr<HostCopies> open_host_copies(Backend& gpu);

// How such a backend computes its products (kernels/cuda/product_choices.h). Each new one that the
// options have timed is timed from time_products() until choices are taken; these are texts of a
// line each.
void time_products(Backend& gpu, const Options& options);
std::string product_choices(Backend& gpu);
// Returns how many of them are for this GPU and this version of cuBLASLt.
int64_t take_product_choices(Backend& gpu, const std::string& text);
// "NVIDIA H200, cuBLASLt 130100", with which a line for this GPU begins.
std::string product_kind();

// Gives another communicator, of some of those ranks, such a transport as well. Returns its name.
// Collective over `part`, which must not outlive the GPU.
std::string connect_gpu(const Options& options, Communicator& part, Backend& gpu);

// For --version: the CUDA libraries that this program was built with.
std::string gpu_version_text();

}  // namespace facet
