// Forward attention on Hopper's tensor cores. The same results as forward_kernel of
// attention_forward_mma.h, up to the order of sums.
#pragma once

#include "kernels/cuda/attention_hopper.h"

namespace facet::cuda::hopper {

template <typename T>
void forward(const AttentionOutputs<T>& y, const AttentionInputs<T>& x, const AttentionLists& lists,
             const AttentionShape& shape, cudaStream_t stream);

}  // namespace facet::cuda::hopper
