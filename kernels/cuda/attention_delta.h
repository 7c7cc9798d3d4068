// delta (slots,H,Nq) of backward attention, overwritten: dout . (the slot's share of out). Of two
// slots one's share is out_part, the other's is the rest of out. A row with its own v in out has
// one share at most, so that v is never in the rest.
//
// The rest is a difference of numbers that were rounded to out's type. As out_part holds the
// smaller share, or the only one, the rest has at least half of out's size where it is used, and
// nothing cancels: a slot whose values are small would otherwise get a delta of the other's
// roundings. A lane loads packs of 16 bytes; a warp has as many heads as they leave room for.
#pragma once

#include "kernels/cuda/attention_lists.h"

namespace facet::cuda {

constexpr int kDeltaThreads = 128;

// The slot whose share of a row out_part holds, or -1.
template <typename T>
GPU_DEVICE int slot_of_part_of(const AttentionSaved<T>& saved, const AttentionShape& shape,
                               int head, int64_t row) {
  return static_cast<int>(saved.lse_SHN[shape.statistic(kSlotOfPart, head, row)]);
}

// `lanes` neighbouring threads for a row and head, a power of 2 up to a warp.
template <typename T>
__global__ void __launch_bounds__(kDeltaThreads)
    delta_kernel(AttentionSaved<T> saved, AttentionLists lists, AttentionShape shape, int lanes,
                 RowAccess access) {
  constexpr int kPack = kPackOf<T>;
  const unsigned thread = threadIdx.x, groups = kDeltaThreads / static_cast<unsigned>(lanes);
  const unsigned group = blockIdx.x * groups + thread / static_cast<unsigned>(lanes);
  const int lane = static_cast<int>(thread) % lanes, width = shape.width;
  // All lanes stay for the sums.
  const bool present = int64_t{group} < shape.num_queries * shape.heads;
  const auto heads = static_cast<unsigned>(shape.heads);
  const int64_t row = present ? group / heads : 0;
  const int head = present ? static_cast<int>(group % heads) : 0;
  const int64_t at = int64_t{head} * width;
  float rest = 0, part = 0;
  for (int c = lane * kPack; c < width; c += lanes * kPack) {
    float dout[kPack], out[kPack], out_part[kPack] = {};
    load_floats(dout, saved.dout_NqD.row(row) + at, c, width, access);
    load_floats(out, saved.out_NqD.row(row) + at, c, width, access);
    if (lists.num_slots == 2)
      load_floats(out_part, saved.out_part_NqD.row(row) + at, c, width, access);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      rest += dout[i] * (out[i] - out_part[i]);
      part += dout[i] * out_part[i];
    }
  }
  for (int other = lanes / 2; other > 0; other /= 2) {
    rest += __shfl_xor_sync(gpu::kFullWarp, rest, other);
    part += __shfl_xor_sync(gpu::kFullWarp, part, other);
  }
  if (lane != 0 || !present) return;
  const int slot_of_part = lists.num_slots == 2 ? slot_of_part_of(saved, shape, head, row) : -1;
  for (int slot = 0; slot < lists.num_slots; ++slot)
    saved.delta_SHN[shape.statistic(slot, head, row)] = slot == slot_of_part ? part : rest;
}

// As many lanes as a head has packs, at most a warp.
inline int delta_lanes(int width, int pack) {
  int lanes = 1;
  while (lanes < gpu::kWarpSize && lanes * pack < width) lanes *= 2;
  return lanes;
}

// Each head of a row must begin on a 16-byte boundary.
inline RowAccess delta_access(std::initializer_list<Operand> operands, int width) {
  const RowAccess access = row_access(operands);
  for (const Operand& x : operands)
    if (width * size_of(x.dtype) % 16 != 0) return RowAccess::kSingle;
  return access;
}

template <typename T>
void compute_delta(const AttentionSaved<T>& saved, const AttentionLists& lists,
                   const AttentionShape& shape, RowAccess access, cudaStream_t stream) {
  const int lanes = delta_lanes(shape.width, kPackOf<T>);
  const int64_t groups = shape.num_queries * shape.heads, groups_of_block = kDeltaThreads / lanes;
  if (groups == 0) return;
  gpu::launch(stream,
              {.grid = static_cast<unsigned>((groups + groups_of_block - 1) / groups_of_block),
               .block = kDeltaThreads},
              delta_kernel<T>, saved, lists, shape, lanes, access);
}

}  // namespace facet::cuda
