// Forward attention on tensor cores, in bf16 and fp16 with fp32 sums (formulas in
// attention_forward.cu): one block per tile of query rows and query head, streaming keys and
// values. Overwrites out, out_image (Nq,H*E) and lse (slots,H,Nq).
#pragma once

#include "kernels/cuda/attention_mma.h"

namespace facet::cuda::mma {

// The running softmax of the thread's two rows, the same in the four lanes of a row.
struct TwoSoftmax {
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};
};

GPU_DEVICE float max_of_row(float x) {
  x = fmaxf(x, __shfl_xor_sync(gpu::kFullWarp, x, 1));
  return fmaxf(x, __shfl_xor_sync(gpu::kFullWarp, x, 2));
}
GPU_DEVICE float sum_of_row(float x) {
  x += __shfl_xor_sync(gpu::kFullWarp, x, 1);
  return x + __shfl_xor_sync(gpu::kFullWarp, x, 2);
}

// Turns products q.k into weights exp(score - max); rescales the earlier sums to the new maximum.
template <int kWidth, int kKeys>
GPU_DEVICE void softmax_step(TwoSoftmax& softmax, float (&scores)[kKeys / 8][4],
                             float (&sums)[kWidth / 8][4], const int (&visible)[2], float scale) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float max = softmax.max[h];
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int i = 2 * h; i < 2 * h + 2; ++i) {
        scores[n][i] = column_of(n, i) < visible[h] ? scores[n][i] * scale : -INFINITY;
        max = fmaxf(max, scores[n][i]);
      }
    max = max_of_row(max);
    // For a row without visible keys so far any finite number will do.
    const float base = max == -INFINITY ? 0.0f : max;
    const float factor = __expf(softmax.max[h] - base);
    float sum = 0;
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int i = 2 * h; i < 2 * h + 2; ++i) sum += scores[n][i] = __expf(scores[n][i] - base);
    softmax.sum[h] = softmax.sum[h] * factor + sum_of_row(sum);
    softmax.max[h] = max;
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
      sums[n][2 * h] *= factor;
      sums[n][2 * h + 1] *= factor;
    }
  }
}

// Finishes a part: normalises the sums (0 in rows outside the part) and stores lse.
template <int kWidth>
GPU_DEVICE void finish_part(float (&sums)[kWidth / 8][4], const TwoSoftmax& softmax,
                            const TwoRows& rows, float* lse_SHN, const AttentionShape& shape,
                            int slot, int head) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const float sum = softmax.sum[h], factor = sum == 0 ? 0.0f : 1.0f / sum;
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
      sums[n][2 * h] *= factor;
      sums[n][2 * h + 1] *= factor;
    }
    if (sum != 0 && rows.row[h] >= 0 && lane_of_thread() % 4 == 0)
      lse_SHN[shape.statistic(slot, head, rows.row[h])] = softmax.max[h] + logf(sum);
  }
}

template <int kWidth, typename T>
using ForwardTiles = SharedTiles<kWidth, 1, kStageRows, T>;

template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads, kBlocks<kWidth>)
    forward_kernel(AttentionOutputs<T> y, AttentionInputs<T> x, AttentionLists lists,
                   AttentionShape shape) {
  constexpr int kKeys = kStageRows;
  const AttentionTile tile = query_tile(lists, blockIdx.x);
  const int head = static_cast<int>(blockIdx.y);
  const int64_t at = int64_t{head} * kWidth, kv_at = int64_t{head / shape.group()} * kWidth;
  gpu::SharedArrays arrays;
  const ForwardTiles<kWidth, T> tiles(arrays);
  fetch_rows<kWidth, kTileRows>(tiles.own(0), x.q_NqD, at, rows_of(lists, tile), tile.num_rows);
  gpu::cp_async_commit();

  const auto rows_of_thread = [&] { return TwoRows(rows_of(lists, tile), tile.num_rows); };
  float out[kWidth / 8][4], sums[kWidth / 8][4];
  clear(out);
  clear(sums);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = rows_of_thread().row[h];
    const int self = row < 0 ? -1 : self_row(lists, row);
    if (self >= 0) add_row<kWidth>(out, h, x.v_NkD.row(self) + kv_at);
  }

  bool has_image_part[2] = {false, false};
  for (int r = 0; r < tile.num_ranges; ++r) {
    const AttentionRange range = range_of(lists, tile, r);
    const int32_t *keys = keys_of(lists, range), *bounds = bounds_of(lists, range);
    TwoSoftmax softmax;
    clear(sums);
    const auto fetch = [&](int stage, int first) {
      const int count = range.count - first;
      fetch_rows<kWidth, kKeys>(tiles.first(stage), x.k_NkD, kv_at, keys + first, count);
      fetch_rows<kWidth, kKeys>(tiles.second(stage), x.v_NkD, kv_at, keys + first, count);
    };
    for_stages<kKeys>(range.count, fetch, [&](int stage, int first) {
      float scores[kKeys / 8][4];
      clear(scores);
      if (!range.is_mean)
        add_products<kWidth, kKeys>(scores, tiles.rows_of_warp(0), tiles.first(stage));
      const int visible[2] = {bounds[row_of_half(0)] - first, bounds[row_of_half(1)] - first};
      softmax_step<kWidth, kKeys>(softmax, scores, sums, visible, shape.scale);
      add_weighted<kWidth, kKeys>(sums, scores, tiles.second(stage));
    });
    const TwoRows rows = rows_of_thread();
    finish_part<kWidth>(sums, softmax, rows, y.lse_SHN, shape, range.slot, head);
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) out[n][i] += sums[n][i];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (range.slot == 0 || rows.row[h] < 0 || bounds[row_of_half(h)] == 0) continue;
      has_image_part[h] = true;
      store_row<kWidth>(y.out_image_NqD.row(rows.row[h]) + at, sums, h);
    }
  }
  clear(sums);
  const TwoRows rows = rows_of_thread();
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (rows.row[h] < 0) continue;
    store_row<kWidth>(y.out_NqD.row(rows.row[h]) + at, out, h);
    if (lists.num_slots == 2 && !has_image_part[h])
      store_row<kWidth>(y.out_image_NqD.row(rows.row[h]) + at, sums, h);
  }
  gpu::cp_async_wait<0>();  // if the tile has no ranges
}

}  // namespace facet::cuda::mma
