// Backward attention on tensor cores, in bf16 and fp16 with fp32 sums (formulas in
// attention_backward.cu). One kernel keeps a tile of query rows and computes dq (Nq,H*E), one block
// per tile and query head; the other keeps a tile of key rows and computes dk and dv (Nk,G*E), one
// block per tile and key/value head. All outputs are overwritten. Both recompute P from lse.
#pragma once

#include "kernels/cuda/attention_delta.h"
#include "kernels/cuda/attention_mma.h"

namespace facet::cuda::mma {

template <int kWidth, typename T>
using BackwardTiles = SharedTiles<kWidth, 2, kStageRows, T>;

// The statistics of the query in a pair; it sees `visible` keys, 0 if the query is absent.
struct QueryOfPair {
  float lse, delta;
  int visible;
};

// P of a pair with product q.k, and P (dP - delta); both 0 if the query does not see the key.
struct PairGradient {
  float p, ds;
};
GPU_DEVICE PairGradient pair_gradient(float product, float dp, const QueryOfPair& query,
                                      int position, float scale) {
  if (position >= query.visible) return {0, 0};
  const float p = __expf(product * scale - query.lse);
  return {p, p * (dp - query.delta)};
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads, kBlocks<kWidth>)
    dq_kernel(Rows<T> dq_NqD, AttentionInputs<T> x, AttentionSaved<T> saved, AttentionLists lists,
              AttentionShape shape) {
  constexpr int kKeys = kStageRows;
  const AttentionTile tile = query_tile(lists, blockIdx.x);
  const int head = static_cast<int>(blockIdx.y);
  const int64_t at = int64_t{head} * kWidth, kv_at = int64_t{head / shape.group()} * kWidth;
  gpu::SharedArrays arrays;
  const BackwardTiles<kWidth, T> tiles(arrays);
  const int32_t* tile_rows = rows_of(lists, tile);
  fetch_rows<kWidth, kTileRows>(tiles.own(0), x.q_NqD, at, tile_rows, tile.num_rows);
  fetch_rows<kWidth, kTileRows>(tiles.own(1), saved.dout_NqD, at, tile_rows, tile.num_rows);
  gpu::cp_async_commit();

  const TwoRows rows(tile_rows, tile.num_rows);
  float dq[kWidth / 8][4];
  clear(dq);
  for (int r = 0; r < tile.num_ranges; ++r) {
    const AttentionRange range = range_of(lists, tile, r);
    const int32_t *keys = keys_of(lists, range), *bounds = bounds_of(lists, range);
    QueryOfPair query[2] = {};
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      query[h].visible = bounds[row_of_half(h)];
      if (query[h].visible == 0) continue;
      const int64_t place = shape.statistic(range.slot, head, rows.row[h]);
      query[h].lse = saved.lse_SHN[place];
      query[h].delta = saved.delta_SHN[place];
    }
    const auto fetch = [&](int stage, int first) {
      const int count = range.count - first;
      fetch_rows<kWidth, kKeys>(tiles.first(stage), x.k_NkD, kv_at, keys + first, count);
      fetch_rows<kWidth, kKeys>(tiles.second(stage), x.v_NkD, kv_at, keys + first, count);
    };
    for_stages<kKeys>(range.count, fetch, [&](int stage, int first) {
      float ds[kKeys / 8][4], dp[kKeys / 8][4];
      clear(ds);
      clear(dp);
      if (!range.is_mean)
        add_products<kWidth, kKeys>(ds, tiles.rows_of_warp(0), tiles.first(stage));
      add_products<kWidth, kKeys>(dp, tiles.rows_of_warp(1), tiles.second(stage));
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          ds[n][i] =
              pair_gradient(ds[n][i], dp[n][i], query[i / 2], first + column_of(n, i), shape.scale)
                  .ds;
      add_weighted<kWidth, kKeys>(dq, ds, tiles.first(stage));
    });
  }
  multiply(dq, shape.scale);
#pragma unroll
  for (int h = 0; h < 2; ++h)
    if (rows.row[h] >= 0) store_row<kWidth>(dq_NqD.row(rows.row[h]) + at, dq, h);
  gpu::cp_async_wait<0>();  // if the tile has no ranges
}

// Scores are transposed here: rows are keys, columns queries, so that P and dS can be used as left
// operands as they are.
template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads, kBlocks<kWidth>)
    dkv_kernel(Rows<T> dk_NkD, Rows<T> dv_NkD, AttentionInputs<T> x, AttentionSaved<T> saved,
               AttentionLists lists, AttentionShape shape) {
  constexpr int kQueries = kStageRows;
  const AttentionTile tile = key_tile(lists, blockIdx.x);
  const int kv_head = static_cast<int>(blockIdx.y), thread = static_cast<int>(threadIdx.x);
  const int64_t kv_at = int64_t{kv_head} * kWidth;
  GPU_SHARED(QueryOfPair, query_of, [kQueries]);
  gpu::SharedArrays arrays;
  const BackwardTiles<kWidth, T> tiles(arrays);
  const int32_t* tile_rows = rows_of(lists, tile);
  fetch_rows<kWidth, kTileRows>(tiles.own(0), x.k_NkD, kv_at, tile_rows, tile.num_rows);
  fetch_rows<kWidth, kTileRows>(tiles.own(1), x.v_NkD, kv_at, tile_rows, tile.num_rows);
  gpu::cp_async_commit();

  float dk[kWidth / 8][4], dv[kWidth / 8][4];
  clear(dk);
  clear(dv);
  for (int head = kv_head * shape.group(); head < (kv_head + 1) * shape.group(); ++head) {
    const int64_t at = int64_t{head} * kWidth;
    const TwoRows own(tile_rows, tile.num_rows);
#pragma unroll
    for (int h = 0; h < 2; ++h)
      if (own.row[h] >= 0 && is_self_row(lists, shape, own.row[h]))
        add_row<kWidth>(dv, h, saved.dout_NqD.row(own.row[h]) + at);
    for (int r = 0; r < tile.num_ranges; ++r) {
      const AttentionRange range = range_of(lists, tile, r);
      const int32_t *queries = queries_of(lists, range), *visible = visible_of(lists, range);
      const int32_t* bounds = bounds_of(lists, range);
      const auto fetch = [&](int stage, int first) {
        const int count = range.count - first;
        fetch_rows<kWidth, kQueries>(tiles.first(stage), x.q_NqD, at, queries + first, count);
        fetch_rows<kWidth, kQueries>(tiles.second(stage), saved.dout_NqD, at, queries + first,
                                     count);
      };
      for_stages<kQueries>(range.count, fetch, [&](int stage, int first) {
        if (thread < kQueries) {
          QueryOfPair query{};
          if (first + thread < range.count) {
            const int64_t place = shape.statistic(range.slot, head, queries[first + thread]);
            query = {saved.lse_SHN[place], saved.delta_SHN[place], visible[first + thread]};
          }
          query_of[thread] = query;
        }
        const int position[2] = {bounds[row_of_half(0)], bounds[row_of_half(1)]};
        float p[kQueries / 8][4], ds[kQueries / 8][4];
        clear(p);
        clear(ds);
        if (!range.is_mean)
          add_products<kWidth, kQueries>(p, tiles.rows_of_warp(0), tiles.first(stage));
        add_products<kWidth, kQueries>(ds, tiles.rows_of_warp(1), tiles.second(stage));
        __syncthreads();  // query_of is written
#pragma unroll
        for (int n = 0; n < kQueries / 8; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const PairGradient pair = pair_gradient(p[n][i], ds[n][i], query_of[column_of(n, i)],
                                                    position[i / 2], shape.scale);
            p[n][i] = pair.p;
            ds[n][i] = pair.ds;
          }
        add_weighted<kWidth, kQueries>(dv, p, tiles.second(stage));
        add_weighted<kWidth, kQueries>(dk, ds, tiles.first(stage));
      });
    }
  }
  multiply(dk, shape.scale);
  const TwoRows rows(tile_rows, tile.num_rows);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (rows.row[h] < 0) continue;
    store_row<kWidth>(dk_NkD.row(rows.row[h]) + kv_at, dk, h);
    store_row<kWidth>(dv_NkD.row(rows.row[h]) + kv_at, dv, h);
  }
  gpu::cp_async_wait<0>();  // if the tile has no ranges
}

}  // namespace facet::cuda::mma
