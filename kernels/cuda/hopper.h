// Whether the kernels for Hopper (compute capability 9.0) can run.
#pragma once

#include "device/cuda_runtime.h"

namespace facet::cuda::hopper {

// A build for other GPUs alone leaves the kernels out (kernels/cuda.mk).
#if defined(FACET_HOPPER) || defined(FACET_EMULATED)
constexpr bool kIsBuilt = true;
#else
constexpr bool kIsBuilt = false;
#endif

// Of the current device.
inline bool is_hopper() {
  int device = 0, major = 0, minor = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
         cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess &&
         major == 9 && minor == 0;
}

}  // namespace facet::cuda::hopper
