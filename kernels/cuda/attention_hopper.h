// Which calls the attention kernels for Hopper take: bf16 and fp16, heads of width 128, and work
// lists without windows.
#pragma once

#include "device/cuda_runtime.h"
#include "kernels/cuda/attention_lists.h"

namespace facet::cuda::hopper {

constexpr int kHeadWidth = 128;

// A build for other GPUs alone leaves the kernels out (kernels/cuda.mk).
#if defined(FACET_HOPPER) || defined(FACET_EMULATED)
constexpr bool kIsBuilt = true;
#else
constexpr bool kIsBuilt = false;
#endif

inline bool is_hopper() {
  int device = 0, major = 0, minor = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
         cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess &&
         major == 9 && minor == 0;
}

// Whether they run this call on the current device. `access` is that of all operands.
inline bool takes(const AttentionLists& lists, const AttentionShape& shape, RowAccess access) {
  return shape.width == kHeadWidth && access == RowAccess::kPacked && lists.key_rows > 0 &&
         shape.num_queries > 0 && !lists.has_windows && is_hopper();
}

}  // namespace facet::cuda::hopper
