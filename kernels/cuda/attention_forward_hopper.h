// Forward attention on Hopper's tensor cores: wgmma and TMA, in bf16 and fp16, for heads of width
// 128 and work lists without windows. The same results as forward_kernel of
// attention_forward_mma.h, up to the order of sums.
#pragma once

#include "kernels/cuda/attention_lists.h"

namespace facet::cuda::hopper {

constexpr int kHeadWidth = 128;

// A build for other GPUs alone leaves the kernel out (kernels/cuda.mk).
#if defined(FACET_HOPPER) || defined(FACET_EMULATED)
constexpr bool kIsBuilt = true;
#else
constexpr bool kIsBuilt = false;
#endif

// Whether forward() runs this call on the current device. All rows begin on 16-byte boundaries.
bool takes(const AttentionLists& lists, const AttentionShape& shape, RowAccess access);

template <typename T>
void forward(const AttentionOutputs<T>& y, const AttentionInputs<T>& x, const AttentionLists& lists,
             const AttentionShape& shape, cudaStream_t stream);

}  // namespace facet::cuda::hopper
