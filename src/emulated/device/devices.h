// The emulated devices: one per process.
//
// FACET_EMULATED_STREAMS says when work on its streams runs: at_once (default), late (as late as
// events and synchronisations allow) or a number, the seed of a random order in between. Read by
// cudaSetDevice.
#pragma once

#include <cstddef>

#include "emulated/device/cuda_runtime.h"

struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int major, minor;
};

enum cudaDeviceAttr {
  cudaDevAttrClockRate = 13,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};

namespace facet::emulated {
// What the device says that it is, 8.0 at first. It can do all that the emulation knows in any
// case, but a block has as much shared memory as there.
struct ComputeCapability {
  int major = 8, minor = 0;
};
void set_compute_capability(ComputeCapability capability);
// The most dynamic shared memory of a block.
size_t max_shared_bytes();
}  // namespace facet::emulated

cudaError_t cudaGetDeviceCount(int* devices);
cudaError_t cudaSetDevice(int device);
// One multiprocessor at 1 GHz.
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
