// Shared by the kernels for Hopper that make dk and dv: blocks of 128 keys, steps of 64 queries.
#pragma once

#include "kernels/cuda/attention_hopper_mma.h"

namespace facet::cuda::hopper {

constexpr int kTile = kTileSize<kTileRows>;
using Sums = Accumulators<kHeadWidth>;

// Of the block's own rows, which arrive once, and of the ring's sides; `arrivals` fill a stage of
// these.
template <typename... Sides>
GPU_DEVICE void init_barriers(gpu::Barrier& rows, unsigned arrivals, Sides&... sides) {
  if (threadIdx.x != 0) return;
  gpu::init_barrier(rows, 1);
  (init_side(sides, arrivals), ...);
  gpu::fence_barrier_init();
}

struct Maps {
  gpu::TensorMap q, dout, k, v;
};
template <int kQueries, typename T>
Maps maps_of(const AttentionInputs<T>& x, const AttentionSaved<T>& saved,
             const AttentionLists& lists, const AttentionShape& shape) {
  return {map_of<kQueries>(x.q_NqD, shape.num_queries, shape.heads),
          map_of<kQueries>(saved.dout_NqD, shape.num_queries, shape.heads),
          map_of<kTileRows>(x.k_NkD, lists.key_rows, shape.kv_heads),
          map_of<kTileRows>(x.v_NkD, lists.key_rows, shape.kv_heads)};
}

constexpr int kDkvStages = 3, kDkvQueries = 64;
// Of a thread: sums, P and dS of a consumer are 192, and 16 for P rounded. A block is launched with
// 168 for each of its threads, 504 for one of each warpgroup: who asks for more waits for ever.
constexpr int kDkvProducerRegisters = 24, kDkvConsumerRegisters = 240;
constexpr int kStepTile = kTileSize<kDkvQueries>;

// Of a step's queries: lse to base 2 and delta; how many keys of its list each sees. Queries after
// the last weigh nothing.
struct StepStatistics {
  float lse[kDkvQueries], delta[kDkvQueries];
  int32_t visible[kDkvQueries];
};

struct DkvRing {
  Side<kDkvStages> queries;  // with dout and statistics
  gpu::Barrier rows;
};

template <typename T>
struct DkvTiles {
  GPU_DEVICE explicit DkvTiles(gpu::Tiles& memory)
      : k(memory.take<T>(kTile)),
        v(memory.take<T>(kTile)),
        q(memory.take<T>(kDkvStages * kStepTile)),
        dout(memory.take<T>(kDkvStages * kStepTile)) {}
  static constexpr size_t bytes() {
    return 2 * kTileBytes<kTileRows, T> + 2 * kDkvStages * kTileBytes<kDkvQueries, T>;
  }
  T *k, *v, *q, *dout;
};

// ---- who fills the ring: one thread with tiles, a warp with statistics. Each waits for an empty
// stage itself. None is missed: a stage is not empty again before both have filled it.

constexpr unsigned kDkvArrivals = 2;

// Calls body(stage, h, r, first) for a block's steps, each when its stage is empty. A step is of 64
// queries of range r from `first` on, of query head h of the block's; steps begin at multiples of
// kAlignment rows of q, and what is before the range weighs nothing.
template <int kAlignment, typename Body>
GPU_DEVICE void for_empty_stages(DkvRing& ring, const AttentionLists& lists,
                                 const AttentionShape& shape, const BlockPlace& place,
                                 const Body& body) {
  RingPlace<kDkvStages> at;
  for (int h = 0; h < shape.group(); ++h)
    for (int r = 0; r < place.tile.num_ranges; ++r) {
      const AttentionRange range = range_of(lists, place.tile, r);
      for (int first = -(range.begin % kAlignment); first < range.count; first += kDkvQueries) {
        wait_until_empty(ring.queries, at);
        body(at.stage, h, r, first);
        at.advance();
      }
    }
}

// By one thread: the block's own rows and each step's q and dout.
template <int kAlignment, typename T>
GPU_DEVICE void fetch_for_dkv(const DkvTiles<T>& tiles, DkvRing& ring, const Maps& maps,
                              const AttentionLists& lists, const AttentionShape& shape,
                              const BlockPlace& place) {
  const int kv_column = place.head * kHeadWidth;
  gpu::arrive_expecting(ring.rows, 2 * kTileBytes<kTileRows, T>);
  fetch_tile<kTileRows>(tiles.k, maps.k, ring.rows, kv_column, place.tile.row_begin);
  fetch_tile<kTileRows>(tiles.v, maps.v, ring.rows, kv_column, place.tile.row_begin);
  for_empty_stages<kAlignment>(ring, lists, shape, place, [&](int stage, int h, int r, int first) {
    gpu::Barrier& full = ring.queries.full[stage];
    const int column = (place.head * shape.group() + h) * kHeadWidth;
    const int row = range_of(lists, place.tile, r).begin + first;
    gpu::arrive_expecting(full, 2 * kTileBytes<kDkvQueries, T>);
    fetch_tile<kDkvQueries>(tiles.q + stage * kStepTile, maps.q, full, column, row);
    fetch_tile<kDkvQueries>(tiles.dout + stage * kStepTile, maps.dout, full, column, row);
  });
}

// By one warp.
template <int kAlignment, typename T>
GPU_DEVICE void bring_statistics(StepStatistics* statistics, DkvRing& ring,
                                 const AttentionSaved<T>& saved, const AttentionLists& lists,
                                 const AttentionShape& shape, const BlockPlace& place) {
  for_empty_stages<kAlignment>(ring, lists, shape, place, [&](int stage, int h, int r, int first) {
    // Read again in every step: it would not fit into registers.
    const AttentionRange range = range_of(lists, place.tile, r);
    const int head = place.head * shape.group() + h;
    const int64_t at = shape.statistic(range.slot, head, range.begin);
    StepStatistics& to = statistics[stage];
    const int lane = lane_of_thread(), query = first + lane;
#pragma unroll
    for (int i = 0; i < kDkvQueries; i += gpu::kWarpSize) {
      const bool present = query + i >= 0 && query + i < range.count;
      to.lse[lane + i] = present ? saved.lse_SHN[at + query + i] * kLog2OfE : INFINITY;
      to.delta[lane + i] = present ? saved.delta_SHN[at + query + i] : 0;
      to.visible[lane + i] = present ? visible_of(lists, range)[query + i] : 0;
    }
    __syncwarp();  // all lanes have stored theirs
    if (lane == 0) gpu::arrive(ring.queries.full[stage]);
  });
}

// Where the thread's key rows lie in the list of a range, and the first place of the consumer's.
struct RowPositions {
  int of_half[2], least;

  GPU_DEVICE explicit RowPositions(const int32_t* bounds) {
    const int32_t* mine = bounds + consumer_of_thread() * kConsumerRows + lane_of_thread();
    least = __reduce_min_sync(gpu::kFullWarp, min(mine[0], mine[gpu::kWarpSize]));
    of_half[0] = bounds[row_of(0)];
    of_half[1] = bounds[row_of(1)];
  }
};

// The consumer's rows of dk and dv of a tile and head, dk without its scale.
template <typename T>
GPU_DEVICE void store_rows(const TurnedRows<T>& dk_NkD, const Rows<T>& dv_NkD, Sums& dk, Sums& dv,
                           const AttentionSaved<T>& saved, const AttentionLists& lists,
                           const AttentionShape& shape, const AttentionTile& tile, int kv_head) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (row_of(h) >= tile.num_rows) continue;
    const int64_t row = tile.row_begin + row_of(h), at = int64_t{kv_head} * kHeadWidth;
    if (const int query = self_query(lists, row); query >= 0)
      for (int head = kv_head * shape.group(); head < (kv_head + 1) * shape.group(); ++head)
        mma::add_row<T>(dv, h, saved.dout_NqD.row(query) + int64_t{head} * kHeadWidth);
    mma::multiply_row(dk, h, shape.scale);
    mma::store_turned_row<kHeadWidth>(dk_NkD.row(row) + at, 0, dk, h, dk_NkD.angles(row));
    mma::store_row(dv_NkD.row(row) + at, dv, h);
  }
}

// ---- a consumer's scores of 64 keys and 64 queries

// Calls body(element, n, i, value of its column) for all elements.
template <typename Body>
GPU_DEVICE void for_columns(Accumulators<kDkvQueries>& elements, const float* values,
                            const Body& body) {
  const float* mine = values + mma::first_column();
#pragma unroll
  for (int n = 0; n < kDkvQueries / 8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) body(elements[n][i], n, i, mine[n * 8 + i % 2]);
}
GPU_DEVICE void hide_earlier_queries(Accumulators<kDkvQueries>& scores, const int32_t* visible,
                                     const RowPositions& rows) {
  const int32_t* mine = visible + mma::first_column();
#pragma unroll
  for (int n = 0; n < kDkvQueries / 8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (rows.of_half[i / 2] >= mine[n * 8 + i % 2]) scores[n][i] = -INFINITY;
}

}  // namespace facet::cuda::hopper
