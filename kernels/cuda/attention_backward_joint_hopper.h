// Backward attention on Hopper's tensor cores in one kernel: the same results as
// attention_backward_hopper.h, up to the order in which dq is summed up.
#pragma once

#include "kernels/cuda/attention_hopper.h"

namespace facet::cuda::hopper {

// Overwrites dq, dk and dv; delta is there, and the counters of `sums` are 0.
template <typename T>
void joint_backward(const AttentionGradients<T>& dx, const AttentionInputs<T>& x,
                    const AttentionSaved<T>& saved, const AttentionLists& lists,
                    const AttentionShape& shape, const JointSums& sums, cudaStream_t stream);

}  // namespace facet::cuda::hopper
