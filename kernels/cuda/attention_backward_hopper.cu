// Two kernels (formulas in attention_backward.cu), of blocks of one warpgroup that fetches and two
// that multiply: dq by tiles of 128 query rows, dk and dv by tiles of 128 key rows. Each keeps its
// sums in registers to the end, so every output is written once, from sums in a fixed order.
//
// That takes seven products where five are needed: q.k and dout.v in both kernels. Of 4096 causal
// rows a product is 4096^2 x 128 = 2.1e9 operations a head, so at 715 TFLOP/s seven take 21 us and
// five 15. But one kernel by key rows has dq spread over its blocks, which add to fp32 sums one
// after the other, 34 MB a head through L2, and wait for their turn
// (attention_backward_joint_hopper.cu). With two kernels no block waits for another.
#include "kernels/cuda/attention_backward_hopper.h"

#include "kernels/cuda/attention_delta.h"
#include "kernels/cuda/attention_dkv_hopper.h"

namespace facet::cuda::hopper {
namespace {

// ---- dq: steps of 128 keys and values. While a step's scores are multiplied, the sums of the
// step before go on.

constexpr int kDqStages = 2, kDqKeys = 128;
// Of a thread: sums, scores and dS of a consumer are 192.
constexpr int kDqProducerRegisters = 24, kDqConsumerRegisters = 240;

struct DqRing {
  Side<kDqStages> keys, values;
  gpu::Barrier rows;
};

template <typename T>
struct DqTiles {
  GPU_DEVICE explicit DqTiles(gpu::Tiles& memory)
      : q(memory.take<T>(kTile)),
        dout(memory.take<T>(kTile)),
        keys(memory.take<T>(kDqStages * kTile)),
        values(memory.take<T>(kDqStages * kTile)) {}
  static constexpr size_t bytes() { return (2 + 2 * kDqStages) * kTileBytes<kTileRows, T>; }
  T *q, *dout, *keys, *values;
};

// By one thread.
template <typename T>
GPU_DEVICE void fetch_for_dq(const DqTiles<T>& tiles, DqRing& ring, const Maps& maps,
                             const AttentionLists& lists, const AttentionTile& tile, int column,
                             int kv_column) {
  constexpr unsigned kBytes = kTileBytes<kTileRows, T>;
  gpu::arrive_expecting(ring.rows, 2 * kBytes);
  fetch_tile<kTileRows>(tiles.q, maps.q, ring.rows, column, tile.row_begin);
  fetch_tile<kTileRows>(tiles.dout, maps.dout, ring.rows, column, tile.row_begin);
  RingPlace<kDqStages> place;
  const auto fetch_step = [&](T* to, Side<kDqStages>& side, const gpu::TensorMap& map, int row) {
    wait_until_empty(side, place);
    gpu::arrive_expecting(side.full[place.stage], kBytes);
    fetch_tile<kDqKeys>(to + place.stage * kTile, map, side.full[place.stage], kv_column, row);
  };
  for (int r = 0; r < tile.num_ranges; ++r) {
    const AttentionRange range = range_of(lists, tile, r);
    for (int first = 0; first < range.count; first += kDqKeys) {
      fetch_step(tiles.keys, ring.keys, maps.k, range.begin + first);
      fetch_step(tiles.values, ring.values, maps.v, range.begin + first);
      place.advance();
    }
  }
}

// Of the thread's two rows in a range, lse to base 2; rows outside it weigh nothing.
struct RowStatistics {
  float lse[2], delta[2];

  template <typename T>
  GPU_DEVICE RowStatistics(const AttentionSaved<T>& saved, const AttentionShape& shape,
                           const RowBounds& bounds, int slot, int head, int row_begin) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const bool present = bounds.of_half[h] != 0;
      const int64_t at = shape.statistic(slot, head, present ? row_begin + row_of(h) : 0);
      lse[h] = present ? saved.lse_SHN[at] * kLog2OfE : INFINITY;
      delta[h] = present ? saved.delta_SHN[at] : 0;
    }
  }
};

template <typename T>
class DqConsumer {
 public:
  GPU_DEVICE DqConsumer(const DqTiles<T>& tiles, DqRing& ring, float factor)
      : tiles_(tiles), ring_(ring), factor_(factor) {}

  GPU_DEVICE void add_range(Sums& dq, const AttentionRange& range, const RowBounds& bounds,
                            const RowStatistics& rows) {
    const int steps = (range.count + kDqKeys - 1) / kDqKeys;
    const int mine = (bounds.most + kDqKeys - 1) / kDqKeys;
    int step = 0;
    for (; step < mine && (step + 1) * kDqKeys <= range.full; ++step)
      add_step<false>(dq, range, bounds, rows, step);
    for (; step < mine; ++step) add_step<true>(dq, range, bounds, rows, step);
    // Not under a condition: ptxas must see that no path leaves the loops without it.
    gpu::wgmma_wait<0>(dq, weights_);
    if (mine > 0) release(ring_.keys, keys_.stage_before());
    for (; step < steps; ++step) {  // that only the other consumer needs
      skip(ring_.keys, keys_);
      skip(ring_.values, values_);
    }
  }

 private:
  template <bool kBoundary>
  GPU_DEVICE void add_step(Sums& dq, const AttentionRange& range, const RowBounds& bounds,
                           const RowStatistics& rows, int step) {
    const T* keys = tiles_.keys + keys_.stage * kTile;
    wait_until_full(ring_.keys, keys_);
    start_products<kDqKeys>(scores_, tiles_.q, keys);
    gpu::wgmma_wait<1>(dq, weights_);
    if (step > 0) release(ring_.keys, keys_.stage_before());
    wait_until_full(ring_.values, values_);
    start_products<kDqKeys>(ds_, tiles_.dout, tiles_.values + values_.stage * kTile);
    gpu::wgmma_wait<1>(scores_);
    if (kBoundary && range.is_mean) clear(scores_);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (kBoundary)
        mma::hide_keys_of_row(scores_, h, bounds.of_half[h] - step * kDqKeys - mma::first_column());
      for_row(h, [&](int n, int i) {
        scores_[n][i] = gpu::fast_exp2(scores_[n][i] * factor_ - rows.lse[h]);
      });
    }
    gpu::wgmma_wait<0>(ds_);
    release(ring_.values, values_.stage);
    values_.advance();
#pragma unroll
    for (int h = 0; h < 2; ++h)
      for_row(h, [&](int n, int i) { ds_[n][i] = scores_[n][i] * (ds_[n][i] - rows.delta[h]); });
    round_weights<T, kDqKeys>(weights_, ds_);
    start_adding<kDqKeys>(dq, weights_, keys);
    keys_.advance();
  }

  // Calls body(n, i) for the elements of half h.
  template <typename Body>
  GPU_DEVICE static void for_row(int h, const Body& body) {
#pragma unroll
    for (int n = 0; n < kDqKeys / 8; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) body(n, 2 * h + i);
  }

  const DqTiles<T>& tiles_;
  DqRing& ring_;
  const float factor_;
  RingPlace<kDqStages> keys_, values_;
  Accumulators<kDqKeys> scores_, ds_;
  Weights<kDqKeys> weights_;
};

template <typename T>
__global__ void __launch_bounds__(kThreads, 1)
    dq_kernel(TurnedRows<T> dq_NqD, AttentionSaved<T> saved, AttentionLists lists,
              AttentionShape shape, const __grid_constant__ Maps maps) {
  GPU_SHARED(BlockPlace, place, );
  GPU_SHARED(DqRing, ring, );
  gpu::Tiles memory;
  const DqTiles<T> tiles(memory);
  init_barriers(ring.rows, 1, ring.keys, ring.values);
  mma::find_place(place, lists, lists.query_tiles, shape.heads);  // ends with a barrier
  const AttentionTile& tile = place.tile;
  const int head = mma::head_of_block(shape.heads);

  if (consumer_of_thread() < 0) {
    gpu::lower_registers<kDqProducerRegisters>();
    if (threadIdx.x == 0)
      fetch_for_dq(tiles, ring, maps, lists, tile, head * kHeadWidth,
                   head / shape.group() * kHeadWidth);
    return;
  }
  gpu::raise_registers<kDqConsumerRegisters>();
  DqConsumer<T> consumer(tiles, ring, shape.factor);
  Sums dq;
  clear(dq);
  gpu::wait_barrier(ring.rows, 0);
  for (int r = 0; r < tile.num_ranges; ++r) {
    const AttentionRange range = range_of(lists, tile, r);
    const RowBounds bounds(bounds_of(lists, range));
    const RowStatistics rows(saved, shape, bounds, range.slot, head, tile.row_begin);
    consumer.add_range(dq, range, bounds, rows);
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (row_of(h) >= tile.num_rows) continue;
    const int64_t row = tile.row_begin + row_of(h);
    mma::multiply_row(dq, h, shape.scale);
    mma::store_turned_row<kHeadWidth>(dq_NqD.row(row) + int64_t{place.head} * kHeadWidth, 0, dq, h,
                                      dq_NqD.angles(row));
  }
}

// ---- dk and dv: steps of 64 queries. Scores are transposed, rows are keys: so P and dS are left
// operands as they are. Products of 64 columns read 4 KiB of shared memory in their 32 cycles, all
// that it gives; for 128 columns registers are too few.

template <typename T>
class DkvConsumer {
 public:
  GPU_DEVICE DkvConsumer(const DkvTiles<T>& tiles, DkvRing& ring, const StepStatistics* statistics,
                         float factor)
      : tiles_(tiles), ring_(ring), statistics_(statistics), factor_(factor) {}

  GPU_DEVICE void add_range(Sums& dk, Sums& dv, const AttentionRange& range, const int32_t* visible,
                            const RowPositions& rows) {
    int first = 0;
    for (; first < range.count; first += kDkvQueries) {  // that only the other consumer needs
      if (rows.least < visible[min(first + kDkvQueries, range.count) - 1]) break;
      skip(ring_.queries, queries_);
    }
    if (first >= range.count) return;
    is_first_ = true;
    for (; first < range.count - range.full; first += kDkvQueries)
      add_step<true>(dk, dv, rows, range.is_mean);
    for (; first < range.count; first += kDkvQueries) add_step<false>(dk, dv, rows, false);
    gpu::wgmma_wait<0>(dk, dv, p_, ds_);
    release_step_before();
  }

 private:
  template <bool kBoundary>
  GPU_DEVICE void add_step(Sums& dk, Sums& dv, const RowPositions& rows, bool is_mean) {
    const T* q = tiles_.q + queries_.stage * kStepTile;
    const T* dout = tiles_.dout + queries_.stage * kStepTile;
    const StepStatistics& statistics = statistics_[queries_.stage];
    wait_until_full(ring_.queries, queries_);
    start_products<kDkvQueries>(weights_, tiles_.k, q);
    gpu::wgmma_wait<1>(dk, dv, p_, ds_);
    if (!is_first_) release_step_before();
    is_first_ = false;
    start_products<kDkvQueries>(products_, tiles_.v, dout);
    gpu::wgmma_wait<1>(weights_);
    if (kBoundary && is_mean) clear(weights_);
    if (kBoundary) hide_earlier_queries(weights_, statistics.visible, rows);
    for_columns(weights_, statistics.lse, [&](float& weight, int, int, float lse) {
      weight = gpu::fast_exp2(weight * factor_ - lse);
    });
    round_weights<T, kDkvQueries>(p_, weights_);
    start_adding<kDkvQueries>(dv, p_, dout);
    gpu::wgmma_wait<1>(products_);
    for_columns(weights_, statistics.delta, [&](float& weight, int n, int i, float delta) {
      weight *= products_[n][i] - delta;
    });
    round_weights<T, kDkvQueries>(ds_, weights_);
    start_adding<kDkvQueries>(dk, ds_, q);
    queries_.advance();
  }

  GPU_DEVICE void release_step_before() {
    __syncwarp();  // all lanes have read the statistics
    release(ring_.queries, queries_.stage_before());
  }

  const DkvTiles<T>& tiles_;
  DkvRing& ring_;
  const StepStatistics* statistics_;
  const float factor_;
  RingPlace<kDkvStages> queries_;
  bool is_first_ = true;                          // step of a range
  Accumulators<kDkvQueries> weights_, products_;  // q.k, P, dS; dout.v
  Weights<kDkvQueries> p_, ds_;
};

template <typename T>
__global__ void __launch_bounds__(kThreads, 1)
    dkv_kernel(TurnedRows<T> dk_NkD, Rows<T> dv_NkD, AttentionSaved<T> saved, AttentionLists lists,
               AttentionShape shape, const __grid_constant__ Maps maps) {
  GPU_SHARED(BlockPlace, place, );
  GPU_SHARED(DkvRing, ring, );
  GPU_SHARED(StepStatistics, statistics, [kDkvStages]);
  gpu::Tiles memory;
  const DkvTiles<T> tiles(memory);
  init_barriers(ring.rows, kDkvArrivals, ring.queries);
  mma::find_place(place, lists, lists.key_tiles, shape.kv_heads);  // ends with a barrier
  const AttentionTile& tile = place.tile;

  if (consumer_of_thread() < 0) {
    gpu::lower_registers<kDkvProducerRegisters>();
    constexpr int kAnywhere = 1;  // steps begin where their range does
    if (threadIdx.x == 0) fetch_for_dkv<kAnywhere>(tiles, ring, maps, lists, shape, place);
    if (threadIdx.x / gpu::kWarpSize == 1)
      bring_statistics<kAnywhere>(statistics, ring, saved, lists, shape, place);
    return;
  }
  gpu::raise_registers<kDkvConsumerRegisters>();
  DkvConsumer<T> consumer(tiles, ring, statistics, shape.factor);
  Sums dk, dv;
  clear(dk);
  clear(dv);
  gpu::wait_barrier(ring.rows, 0);
  for (int h = 0; h < shape.group(); ++h)
    for (int r = 0; r < tile.num_ranges; ++r) {
      const AttentionRange range = range_of(lists, tile, r);
      consumer.add_range(dk, dv, range, visible_of(lists, range),
                         RowPositions(bounds_of(lists, range)));
    }
  store_rows(dk_NkD, dv_NkD, dk, dv, saved, lists, shape, tile, place.head);
}

}  // namespace

template <typename T>
void backward(const AttentionGradients<T>& dx, const AttentionInputs<T>& x,
              const AttentionSaved<T>& saved, const AttentionLists& lists,
              const AttentionShape& shape, BackwardStreams streams) {
  if (lists.num_key_tiles > 0)
    gpu::launch(streams.dkv,
                {.grid = mma::grid_of(lists.num_key_tiles, shape.kv_heads),
                 .block = kThreads,
                 .shared_bytes = DkvTiles<T>::bytes()},
                dkv_kernel<T>, dx.dk_NkD, dx.dv_NkD, saved, lists, shape,
                maps_of<kDkvQueries>(x, saved, lists, shape));
  if (lists.num_query_tiles > 0)
    gpu::launch(streams.dq,
                {.grid = mma::grid_of(lists.num_query_tiles, shape.heads),
                 .block = kThreads,
                 .shared_bytes = DqTiles<T>::bytes()},
                dq_kernel<T>, dx.dq_NqD, saved, lists, shape,
                maps_of<kTileRows>(x, saved, lists, shape));
}

template void backward(const AttentionGradients<gpu::bf16>&, const AttentionInputs<gpu::bf16>&,
                       const AttentionSaved<gpu::bf16>&, const AttentionLists&,
                       const AttentionShape&, BackwardStreams);
template void backward(const AttentionGradients<gpu::f16>&, const AttentionInputs<gpu::f16>&,
                       const AttentionSaved<gpu::f16>&, const AttentionLists&,
                       const AttentionShape&, BackwardStreams);

}  // namespace facet::cuda::hopper
