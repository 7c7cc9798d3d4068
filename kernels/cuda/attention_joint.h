// What the kernels of a joint backward have in common, on Hopper and elsewhere.
#pragma once

#include "kernels/cuda/attention_mma.h"

namespace facet::cuda {

GPU_DEVICE int blocks_of_queries(const AttentionLists& lists) {
  return (lists.query_rows + kStepRows - 1) / kStepRows;
}
GPU_DEVICE int64_t first_block(const AttentionLists& lists, int head) {
  return int64_t{head} * blocks_of_queries(lists);
}

// Of keys and their head.
struct JointPlace : mma::BlockPlace {
  int32_t turn_begin;  // in the lists
};

// The next tile and head, for a block that begins. Ends with a barrier.
GPU_DEVICE void take_place(JointPlace& place, const JointSums& sums, const AttentionLists& lists,
                           int heads) {
  if (threadIdx.x == 0) {
    const int number = atomicAdd(sums.taken, 1);
    const JointTile next = joint_tile(lists, number / heads);
    place.tile = key_tile(lists, static_cast<unsigned>(next.key_tile));
    place.head = number % heads;
    place.turn_begin = next.turn_begin;
  }
  __syncthreads();
}

}  // namespace facet::cuda
