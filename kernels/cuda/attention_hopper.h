// Which calls the attention kernels for Hopper take: bf16 and fp16, heads of width 128, and work
// lists without windows.
#pragma once

#include "kernels/cuda/attention_lists.h"
#include "kernels/cuda/hopper.h"

namespace facet::cuda::hopper {

constexpr int kHeadWidth = 128;

// Whether they run this call on the current device. `access` is that of all operands.
inline bool takes(const AttentionLists& lists, const AttentionShape& shape, RowAccess access) {
  return shape.width == kHeadWidth && access == RowAccess::kPacked && lists.key_rows > 0 &&
         shape.num_queries > 0 && !lists.has_windows && is_hopper();
}

}  // namespace facet::cuda::hopper
