// The GPU architectures that the kernels of this build run on.
#pragma once

namespace facet {

#if defined(FACET_EMULATED)
constexpr const char* kCudaArchitectures = "emulated on the CPU, without cuDNN";
#else
constexpr const char* kCudaArchitectures = FACET_CUDA_ARCHITECTURES;  // from kernels/cuda.mk
#endif

}  // namespace facet
