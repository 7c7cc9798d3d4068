// delta (slots,H,Nq) of backward attention, overwritten: dout . (the slot's share of out). The
// image slot's share is out_image, the other slot's is the rest of out without the row's own v. One
// warp per row and head.
#pragma once

#include "kernels/cuda/attention_lists.h"

namespace facet::cuda {

constexpr int kDeltaThreads = 128;  // one warp per row and head

// Whether row `row` of v is added to row `row` of out.
GPU_DEVICE bool is_self_row(const AttentionLists& lists, const AttentionShape& shape, int64_t row) {
  return row < shape.num_queries && self_row(lists, row) == row;
}

template <typename T>
__global__ void __launch_bounds__(kDeltaThreads)
    delta_kernel(AttentionInputs<T> x, AttentionSaved<T> saved, AttentionLists lists,
                 AttentionShape shape) {
  const int64_t warp = (int64_t{blockIdx.x} * kDeltaThreads + threadIdx.x) / gpu::kWarpSize;
  const int64_t row = warp / shape.heads, head = warp % shape.heads;
  if (row >= shape.num_queries) return;
  const int lane = static_cast<int>(threadIdx.x) % gpu::kWarpSize, width = shape.width;
  const int64_t at = head * width, kv_at = head / shape.group() * width;
  const int self = self_row(lists, row);
  float total = 0, image = 0;
  for (int c = lane; c < width; c += gpu::kWarpSize) {
    const float dout = gpu::to_float(saved.dout_NqD.row(row)[at + c]);
    float share = gpu::to_float(saved.out_NqD.row(row)[at + c]);
    if (self >= 0) share -= gpu::to_float(x.v_NkD.row(self)[kv_at + c]);
    if (lists.num_slots == 2) {
      const float out_image = gpu::to_float(saved.out_image_NqD.row(row)[at + c]);
      share -= out_image;
      image += dout * out_image;
    }
    total += dout * share;
  }
  total = gpu::warp_sum(total);
  image = gpu::warp_sum(image);
  if (lane != 0) return;
  const int slot_head = static_cast<int>(head);
  saved.delta_SHN[shape.statistic(0, slot_head, row)] = total;
  if (lists.num_slots == 2) saved.delta_SHN[shape.statistic(1, slot_head, row)] = image;
}

template <typename T>
void compute_delta(const AttentionInputs<T>& x, const AttentionSaved<T>& saved,
                   const AttentionLists& lists, const AttentionShape& shape, cudaStream_t stream) {
  constexpr int64_t kRowsOfBlock = kDeltaThreads / gpu::kWarpSize;
  const int64_t rows = shape.num_queries * shape.heads;
  if (rows == 0) return;
  gpu::launch(stream,
              {.grid = static_cast<unsigned>((rows + kRowsOfBlock - 1) / kRowsOfBlock),
               .block = kDeltaThreads},
              delta_kernel<T>, x, saved, lists, shape);
}

}  // namespace facet::cuda
