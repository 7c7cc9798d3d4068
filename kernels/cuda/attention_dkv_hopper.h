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

// By one warp: its first lane fetches tiles, all of them the statistics.
template <typename T>
class DkvProducer {
 public:
  GPU_DEVICE DkvProducer(const DkvTiles<T>& tiles, DkvRing& ring, StepStatistics* statistics,
                         const AttentionSaved<T>& saved, const AttentionLists& lists,
                         const AttentionShape& shape, const Maps& maps)
      : tiles_(tiles),
        ring_(ring),
        statistics_(statistics),
        saved_(saved),
        lists_(lists),
        shape_(shape),
        maps_(maps) {}

  GPU_DEVICE void fetch_rows(int row, int kv_column) {
    if (lane_of_thread() != 0) return;
    gpu::arrive_expecting(ring_.rows, 2 * kTileBytes<kTileRows, T>);
    fetch_tile<kTileRows>(tiles_.k, maps_.k, ring_.rows, kv_column, row);
    fetch_tile<kTileRows>(tiles_.v, maps_.v, ring_.rows, kv_column, row);
  }
  // Steps begin so many rows before the range: those weigh nothing.
  GPU_DEVICE void fetch_range(const AttentionRange& range, int head, int rows_before = 0) {
    for (int first = -rows_before; first < range.count; first += kDkvQueries) {
      wait_until_empty(ring_.queries, place_);
      gpu::Barrier& full = ring_.queries.full[place_.stage];
      if (lane_of_thread() == 0) {
        gpu::arrive_expecting(full, 2 * kTileBytes<kDkvQueries, T>);
        fetch_tile<kDkvQueries>(tiles_.q + place_.stage * kStepTile, maps_.q, full,
                                head * kHeadWidth, range.begin + first);
        fetch_tile<kDkvQueries>(tiles_.dout + place_.stage * kStepTile, maps_.dout, full,
                                head * kHeadWidth, range.begin + first);
      }
      store_statistics(range, head, first);
      gpu::arrive(full);
      place_.advance();
    }
  }

 private:
  GPU_DEVICE void store_statistics(const AttentionRange& range, int head, int first) {
    StepStatistics& to = statistics_[place_.stage];
    const int64_t at = shape_.statistic(range.slot, head, range.begin);
#pragma unroll
    for (int i = lane_of_thread(); i < kDkvQueries; i += gpu::kWarpSize) {
      const int query = first + i;
      const bool present = query >= 0 && query < range.count;
      to.lse[i] = present ? saved_.lse_SHN[at + query] * kLog2OfE : INFINITY;
      to.delta[i] = present ? saved_.delta_SHN[at + query] : 0;
      to.visible[i] = present ? visible_of(lists_, range)[query] : 0;
    }
  }

  const DkvTiles<T>& tiles_;
  DkvRing& ring_;
  StepStatistics* statistics_;
  const AttentionSaved<T>& saved_;
  const AttentionLists& lists_;
  const AttentionShape& shape_;
  const Maps& maps_;
  RingPlace<kDkvStages> place_;
};

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
