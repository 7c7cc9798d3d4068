// One block per tile of 128 query rows and query head (formulas in attention_forward.cu): a
// warpgroup of which one thread fetches steps of 128 keys and values by TMA into a ring, and two
// that multiply 64 query rows each. While one product adds up the values of a step, the softmax of
// the next step is under way: its scores were multiplied before. Weights stay in registers, where
// wgmma reads them.
#include "kernels/cuda/attention_forward_hopper.h"

#include "kernels/cuda/attention_forward_mma.h"
#include "kernels/cuda/attention_hopper_mma.h"

namespace facet::cuda::hopper {
namespace {

constexpr int kStages = 2, kKeys = 128;  // a step
// Of a thread: the sums, scores and weights of a consumer are 160.
constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;

constexpr int kTile = kTileSize<kTileRows>;
static_assert(kKeys == kTileRows);

struct Ring {
  Side<kStages> keys, values;
  gpu::Barrier queries[kConsumers];
};
GPU_DEVICE void init_ring(Ring& ring) {
  if (threadIdx.x == 0) {
    init_side(ring.keys, 1);
    init_side(ring.values, 1);
    for (gpu::Barrier& queries : ring.queries) gpu::init_barrier(queries, gpu::kWarpgroupSize);
    gpu::fence_barrier_init();
  }
}

template <typename T>
struct Tiles {
  GPU_DEVICE explicit Tiles(gpu::Tiles& memory)
      : queries(memory.take<T>(kTile)),
        keys(memory.take<T>(kStages * kTile)),
        values(memory.take<T>(kStages * kTile)) {}
  static constexpr size_t bytes() { return (1 + 2 * kStages) * kTileBytes<kKeys, T>; }
  T *queries, *keys, *values;
};

// ---- the producer: one thread

template <typename T>
GPU_DEVICE void fetch_step(T* tiles, Side<kStages>& side, const RingPlace<kStages>& place,
                           const gpu::TensorMap& map, int column, int row) {
  wait_until_empty(side, place);
  gpu::arrive_expecting(side.full[place.stage], kTileBytes<kKeys, T>);
  fetch_tile<kKeys>(tiles + place.stage * kTile, map, side.full[place.stage], column, row);
}

template <typename T>
GPU_DEVICE void produce(const Tiles<T>& tiles, Ring& ring, const gpu::TensorMap& keys,
                        const gpu::TensorMap& values, const AttentionLists& lists,
                        const AttentionTile& tile, int column) {
  RingPlace<kStages> place;
  for (int r = tile.num_ranges - 1; r >= 0; --r) {  // image keys first
    const AttentionRange range = range_of(lists, tile, r);
    for (int first = 0; first < range.count; first += kKeys) {
      fetch_step(tiles.keys, ring.keys, place, keys, column, range.begin + first);
      fetch_step(tiles.values, ring.values, place, values, column, range.begin + first);
      place.advance();
    }
  }
}

// ---- a consumer: a warpgroup

// Stores the consumer's query rows as panels and waits until all are there.
template <typename T>
GPU_DEVICE void store_queries(T* tile, gpu::Barrier& there, const AttentionInputs<T>& x, int64_t at,
                              const AttentionTile& rows) {
  constexpr int kChunk = 8, kChunks = kHeadWidth / kChunk, kPanelChunks = kPanelColumns / kChunk;
  for (int i = thread_of_consumer(); i < kConsumerRows * kChunks; i += gpu::kWarpgroupSize) {
    const int row = consumer_of_thread() * kConsumerRows + i / kChunks, chunk = i % kChunks;
    const T* from = x.q_NqD.row(rows.row_begin + min(row, rows.num_rows - 1)) + at + chunk * kChunk;
    gpu::store_pack(tile + chunk / kPanelChunks * kPanelSize<kTileRows> +
                        gpu::swizzled_place<T>(row, chunk % kPanelChunks),
                    gpu::load_pack(from));
  }
  gpu::fence_async_proxy();
  gpu::arrive(there);
  gpu::wait_barrier(there, 0);
}

using Sums = Accumulators<kHeadWidth>;

template <typename T>
class Consumer {
 public:
  GPU_DEVICE Consumer(const Tiles<T>& tiles, Ring& ring, float factor)
      : tiles_(tiles), ring_(ring), factor_(factor) {}

  // Begins a softmax.
  GPU_DEVICE void begin(Sums& sums) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      max[h] = -INFINITY;
      sum[h] = 0;
      mma::clear_row(sums, h);
    }
  }
  // Adds the values of a range to the sums, with weights relative to the largest q.k of each row.
  GPU_DEVICE void add_range(Sums& sums, const AttentionRange& range, const RowBounds& bounds) {
    const int steps = (range.count + kKeys - 1) / kKeys, mine = (bounds.most + kKeys - 1) / kKeys;
    if (mine > 0) {
      start_scores();
      gpu::wgmma_wait<0>(scores_);
      give_back(ring_.keys, keys_);
      weigh<true>(range, bounds, 0);
      rescale(sums);
      round_weights<T, kKeys>(weights_, scores_);
      int step = 1;
      for (; step < mine && (step + 1) * kKeys <= range.full; ++step)
        next_step<false>(sums, range, bounds, step);
      for (; step < mine; ++step) next_step<true>(sums, range, bounds, step);
      add_values(sums);
      gpu::wgmma_wait<0>(sums, weights_);
      give_back(ring_.values, values_);
    }
    for (int step = mine; step < steps; ++step) {  // that only the other consumer needs
      skip(ring_.keys, keys_);
      skip(ring_.values, values_);
    }
  }

  float max[2], sum[2];  // of q.k, the same in the four lanes of a row; of the lane's weights

 private:
  template <bool kBoundary>
  GPU_DEVICE void next_step(Sums& sums, const AttentionRange& range, const RowBounds& bounds,
                            int step) {
    start_scores();
    add_values(sums);
    gpu::wgmma_wait<1>(scores_);
    give_back(ring_.keys, keys_);
    weigh<kBoundary>(range, bounds, step * kKeys);
    gpu::wgmma_wait<0>(sums, weights_);
    give_back(ring_.values, values_);
    rescale(sums);
    round_weights<T, kKeys>(weights_, scores_);
  }

  GPU_DEVICE void start_scores() {
    wait_until_full(ring_.keys, keys_);
    start_products<kKeys>(scores_, tiles_.queries, tiles_.keys + keys_.stage * kTile);
  }
  GPU_DEVICE void add_values(Sums& sums) {
    wait_until_full(ring_.values, values_);
    start_adding<kKeys>(sums, weights_, tiles_.values + values_.stage * kTile);
  }

  template <bool kBoundary>
  GPU_DEVICE void weigh(const AttentionRange& range, const RowBounds& bounds, int first) {
    if (kBoundary && range.is_mean) {
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) scores_[n][i] = 0;
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (kBoundary)
        mma::hide_keys_of_row(scores_, h, bounds.of_half[h] - first - mma::first_column());
      rescale_[h] = mma::softmax_of_row<kBoundary>(max[h], sum[h], scores_, h, factor_);
    }
  }
  GPU_DEVICE void rescale(Sums& sums) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) mma::multiply_row(sums, h, rescale_[h]);
  }
  GPU_DEVICE static void give_back(Side<kStages>& side, RingPlace<kStages>& place) {
    release(side, place.stage);
    place.advance();
  }

  const Tiles<T>& tiles_;
  Ring& ring_;
  const float factor_;
  RingPlace<kStages> keys_, values_;
  Accumulators<kKeys> scores_;
  Weights<kKeys> weights_;
  float rescale_[2];
};

template <typename T>
__global__ void __launch_bounds__(kThreads, 1)
    forward_kernel(AttentionOutputs<T> y, AttentionInputs<T> x, AttentionLists lists,
                   AttentionShape shape, const __grid_constant__ gpu::TensorMap keys,
                   const __grid_constant__ gpu::TensorMap values) {
  GPU_SHARED(BlockPlace, place, );
  GPU_SHARED(Ring, ring, );
  GPU_SHARED(mma::ImageSizes, image_sizes, );
  gpu::Tiles memory;
  const Tiles<T> tiles(memory);
  init_ring(ring);
  mma::find_place(place, lists, lists.query_tiles, shape.heads);  // ends with a barrier
  const AttentionTile& tile = place.tile;
  const int head = mma::head_of_block(shape.heads);

  if (consumer_of_thread() < 0) {
    gpu::lower_registers<kProducerRegisters>();
    if (threadIdx.x == 0)
      produce(tiles, ring, keys, values, lists, tile, head / shape.group() * kHeadWidth);
    return;
  }
  gpu::raise_registers<kConsumerRegisters>();
  store_queries(tiles.queries, ring.queries[consumer_of_thread()], x, int64_t{head} * kHeadWidth,
                tile);
  const mma::ForwardRows<kHeadWidth, T> rows(y, x, lists, shape, place, image_sizes);
  Consumer<T> consumer(tiles, ring, shape.factor);
  Sums sums;
  for (int r = tile.num_ranges - 1; r >= 0; --r) {  // image keys first
    const AttentionRange range = range_of(lists, tile, r);
    const RowBounds bounds(bounds_of(lists, range));
    if (!goes_on(lists, tile, r)) consumer.begin(sums);
    consumer.add_range(sums, range, bounds);
    if (range.continues) continue;
#pragma unroll
    for (int h = 0; h < 2; ++h)
      rows.end_part(sums, h, row_of(h), range.slot, bounds.of_half[h] != 0, consumer.max[h],
                    consumer.sum[h]);
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) rows.end_row(sums, h, row_of(h));
}

}  // namespace

template <typename T>
void forward(const AttentionOutputs<T>& y, const AttentionInputs<T>& x, const AttentionLists& lists,
             const AttentionShape& shape, cudaStream_t stream) {
  gpu::launch(stream,
              {.grid = mma::grid_of(lists.num_query_tiles, shape.heads),
               .block = kThreads,
               .shared_bytes = Tiles<T>::bytes()},
              forward_kernel<T>, y, x, lists, shape,
              map_of<kKeys>(x.k_NkD, lists.key_rows, shape.kv_heads),
              map_of<kKeys>(x.v_NkD, lists.key_rows, shape.kv_heads));
}

template void forward(const AttentionOutputs<gpu::bf16>&, const AttentionInputs<gpu::bf16>&,
                      const AttentionLists&, const AttentionShape&, cudaStream_t);
template void forward(const AttentionOutputs<gpu::f16>&, const AttentionInputs<gpu::f16>&,
                      const AttentionLists&, const AttentionShape&, cudaStream_t);

}  // namespace facet::cuda::hopper
