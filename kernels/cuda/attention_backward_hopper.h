// Backward attention on Hopper's tensor cores: the same results as dq_kernel and dkv_kernel of
// attention_backward_mma.h, up to the order of sums and roundings of weights.
#pragma once

#include "kernels/cuda/attention_hopper.h"

namespace facet::cuda::hopper {

// Overwrites dq, dk and dv; delta is there.
template <typename T>
void backward(const AttentionGradients<T>& dx, const AttentionInputs<T>& x,
              const AttentionSaved<T>& saved, const AttentionLists& lists,
              const AttentionShape& shape, BackwardStreams streams);

}  // namespace facet::cuda::hopper
