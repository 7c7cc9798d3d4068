// One block per tile of 128 query rows and query head (formulas in attention_forward.cu): a
// warpgroup of which one thread fetches steps of 128 keys and values by TMA into a ring, and two
// that multiply 64 query rows each. While one product adds up the values of a step, the softmax of
// the next step is under way: its scores were multiplied before.
//
// Shared memory holds panels: 128 rows of 64 columns, half a head, with the 128-byte swizzle.
// Weights stay in registers, where wgmma reads them.
#include "kernels/cuda/attention_forward_hopper.h"

#include "device/cuda_runtime.h"
#include "kernels/cuda/attention_forward_mma.h"
#include "kernels/gpu_hopper.h"

namespace facet::cuda::hopper {
namespace {

using mma::BlockPlace, mma::lane_of_thread;

constexpr int kStages = 2, kKeys = 128;  // a step
constexpr int kConsumers = 2;            // warpgroups
constexpr int kThreads = (1 + kConsumers) * gpu::kWarpgroupSize;
constexpr int kConsumerRows = 64;
static_assert(kConsumers * kConsumerRows == kTileRows && kKeys == kTileRows);
// Of a thread: the sums, scores and weights of a consumer are 160.
constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;

constexpr int kPanelColumns = 64, kPanels = kHeadWidth / kPanelColumns;
constexpr int kPanel = kTileRows * kPanelColumns, kTile = kPanels * kPanel;  // elements
template <typename T>
constexpr unsigned kTileBytes = kTile * sizeof(T);

// One side of the ring: tiles of keys, or of values.
struct Side {
  gpu::Barrier full[kStages], empty[kStages];
};
struct Ring {
  Side keys, values;
  gpu::Barrier queries[kConsumers];
};
GPU_DEVICE void init_ring(Ring& ring) {
  if (threadIdx.x == 0) {
    constexpr unsigned kConsumerWarps = kConsumers * gpu::kWarpgroupSize / gpu::kWarpSize;
    for (int s = 0; s < kStages; ++s)
      for (Side* side : {&ring.keys, &ring.values}) {
        gpu::init_barrier(side->full[s], 1);
        gpu::init_barrier(side->empty[s], kConsumerWarps);
      }
    for (gpu::Barrier& queries : ring.queries) gpu::init_barrier(queries, gpu::kWarpgroupSize);
    gpu::fence_barrier_init();
  }
}

// The next stage of a side, and the parity of its phase.
struct RingPlace {
  int stage = 0;
  unsigned parity = 0;

  GPU_DEVICE void advance() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

template <typename T>
struct Tiles {
  GPU_DEVICE explicit Tiles(gpu::Tiles& memory)
      : queries(memory.take<T>(kTile)),
        keys(memory.take<T>(kStages * kTile)),
        values(memory.take<T>(kStages * kTile)) {}
  static constexpr size_t bytes() { return (1 + 2 * kStages) * kTileBytes<T>; }
  T *queries, *keys, *values;
};

// ---- the producer: one thread

template <typename T>
GPU_DEVICE void fetch_tile(T* tiles, Side& side, const RingPlace& place, const gpu::TensorMap& map,
                           int column, int row) {
  gpu::wait_barrier(side.empty[place.stage], place.parity ^ 1);
  gpu::arrive_expecting(side.full[place.stage], kTileBytes<T>);
#pragma unroll
  for (int p = 0; p < kPanels; ++p)
    gpu::load_box(tiles + place.stage * kTile + p * kPanel, map, side.full[place.stage],
                  column + p * kPanelColumns, row);
}

template <typename T>
GPU_DEVICE void produce(const Tiles<T>& tiles, Ring& ring, const gpu::TensorMap& keys,
                        const gpu::TensorMap& values, const AttentionLists& lists,
                        const AttentionTile& tile, int column) {
  RingPlace place;
  for (int r = tile.num_ranges - 1; r >= 0; --r) {  // image keys first
    const AttentionRange range = range_of(lists, tile, r);
    for (int first = 0; first < range.count; first += kKeys) {
      fetch_tile(tiles.keys, ring.keys, place, keys, column, range.begin + first);
      fetch_tile(tiles.values, ring.values, place, values, column, range.begin + first);
      place.advance();
    }
  }
}

// ---- a consumer: a warpgroup

GPU_DEVICE int consumer_of_thread() {
  return static_cast<int>(threadIdx.x / unsigned{gpu::kWarpgroupSize}) - 1;
}
GPU_DEVICE int thread_of_consumer() {
  return static_cast<int>(threadIdx.x % unsigned{gpu::kWarpgroupSize});
}
// The row of the tile that holds half h of the thread's elements.
GPU_DEVICE int row_of(int h) {
  return consumer_of_thread() * kConsumerRows + thread_of_consumer() / gpu::kWarpSize * 16 +
         lane_of_thread() / 4 + 8 * h;
}

// Stores the consumer's query rows as panels and waits until all are there.
template <typename T>
GPU_DEVICE void store_queries(T* tile, gpu::Barrier& there, const AttentionInputs<T>& x, int64_t at,
                              const AttentionTile& rows) {
  constexpr int kChunk = 8, kChunks = kHeadWidth / kChunk, kPanelChunks = kPanelColumns / kChunk;
  for (int i = thread_of_consumer(); i < kConsumerRows * kChunks; i += gpu::kWarpgroupSize) {
    const int row = consumer_of_thread() * kConsumerRows + i / kChunks, chunk = i % kChunks;
    const T* from = x.q_NqD.row(rows.row_begin + min(row, rows.num_rows - 1)) + at + chunk * kChunk;
    gpu::store_pack(
        tile + chunk / kPanelChunks * kPanel + gpu::swizzled_place<T>(row, chunk % kPanelChunks),
        gpu::load_pack(from));
  }
  gpu::fence_async_proxy();
  gpu::arrive(there);
  gpu::wait_barrier(there, 0);
}

// How many keys of a range each of the thread's rows sees, and the most that a row of the consumer
// does.
struct RowBounds {
  int of_half[2], most;

  GPU_DEVICE explicit RowBounds(const int32_t* bounds) {
    const int32_t* mine = bounds + consumer_of_thread() * kConsumerRows + lane_of_thread();
    most = __reduce_max_sync(gpu::kFullWarp, max(mine[0], mine[gpu::kWarpSize]));
    of_half[0] = bounds[row_of(0)];
    of_half[1] = bounds[row_of(1)];
  }
};

using Accumulators = float[kHeadWidth / 8][4];
static_assert(kHeadWidth == kKeys);

template <typename T>
class Consumer {
 public:
  GPU_DEVICE Consumer(const Tiles<T>& tiles, Ring& ring, float factor)
      : tiles_(tiles), ring_(ring), factor_(factor) {}

  // Begins a softmax.
  GPU_DEVICE void begin(Accumulators& sums) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      max[h] = -INFINITY;
      sum[h] = 0;
      mma::clear_row(sums, h);
    }
  }
  // Adds the values of a range to the sums, with weights relative to the largest q.k of each row.
  GPU_DEVICE void add_range(Accumulators& sums, const AttentionRange& range,
                            const RowBounds& bounds) {
    const int steps = (range.count + kKeys - 1) / kKeys, mine = (bounds.most + kKeys - 1) / kKeys;
    if (mine > 0) {
      start_scores();
      gpu::wgmma_wait<0>(scores_);
      release(ring_.keys, keys_);
      weigh<true>(range, bounds, 0);
      rescale(sums);
      round_weights();
      int step = 1;
      for (; step < mine && (step + 1) * kKeys <= range.full; ++step)
        next_step<false>(sums, range, bounds, step);
      for (; step < mine; ++step) next_step<true>(sums, range, bounds, step);
      add_values(sums);
      gpu::wgmma_wait<0>(sums, weights_);
      release(ring_.values, values_);
    }
    for (int step = mine; step < steps; ++step) {  // that only the other consumer needs
      skip(ring_.keys, keys_);
      skip(ring_.values, values_);
    }
  }

  float max[2], sum[2];  // of q.k, the same in the four lanes of a row; of the lane's weights

 private:
  template <bool kBoundary>
  GPU_DEVICE void next_step(Accumulators& sums, const AttentionRange& range,
                            const RowBounds& bounds, int step) {
    start_scores();
    add_values(sums);
    gpu::wgmma_wait<1>(scores_);
    release(ring_.keys, keys_);
    weigh<kBoundary>(range, bounds, step * kKeys);
    gpu::wgmma_wait<0>(sums, weights_);
    release(ring_.values, values_);
    rescale(sums);
    round_weights();
  }

  // scores (64 queries, 128 keys) = q k', under way.
  GPU_DEVICE void start_scores() {
    const T* queries = tiles_.queries + consumer_of_thread() * kConsumerRows * kPanelColumns;
    const T* keys = tiles_.keys + keys_.stage * kTile;
    gpu::wait_barrier(ring_.keys.full[keys_.stage], keys_.parity);
    gpu::wgmma_fence(scores_);
#pragma unroll
    for (int k = 0; k < kHeadWidth; k += 16) {
      const int panel = k / kPanelColumns * kPanel, column = k % kPanelColumns;
      gpu::wgmma_m64n128k16<T, gpu::Major::kK>(
          scores_, gpu::operand_of_columns(queries + panel, column),
          gpu::operand_of_columns(keys + panel, column), k > 0);
    }
    gpu::wgmma_commit();
  }
  // sums (64,128) += weights (64 queries, 128 keys) v, under way.
  GPU_DEVICE void add_values(Accumulators& sums) {
    const T* values = tiles_.values + values_.stage * kTile;
    gpu::wait_barrier(ring_.values.full[values_.stage], values_.parity);
    gpu::wgmma_fence(sums, weights_);
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k)
      gpu::wgmma_m64n128k16<T, gpu::Major::kN>(
          sums, weights_[k],
          gpu::operand_of_rows(values, k * 16, kPanel * static_cast<int>(sizeof(T))), true);
    gpu::wgmma_commit();
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
  GPU_DEVICE void rescale(Accumulators& sums) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) mma::multiply_row(sums, h, rescale_[h]);
  }
  GPU_DEVICE void round_weights() {
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const auto& c = scores_[2 * k + i / 2];
        weights_[k][i] = gpu::pair_of<T>(c[i % 2 * 2], c[i % 2 * 2 + 1]);
      }
  }

  GPU_DEVICE static void release(Side& side, RingPlace& place) {
    if (lane_of_thread() == 0) gpu::arrive(side.empty[place.stage]);
    place.advance();
  }
  GPU_DEVICE static void skip(Side& side, RingPlace& place) {
    gpu::wait_barrier(side.full[place.stage], place.parity);
    release(side, place);
  }

  const Tiles<T>& tiles_;
  Ring& ring_;
  const float factor_;
  RingPlace keys_, values_;
  Accumulators scores_;
  uint32_t weights_[kKeys / 16][4];
  float rescale_[2];
};

template <typename T>
__global__ void __launch_bounds__(kThreads, 1)
    forward_kernel(AttentionOutputs<T> y, AttentionInputs<T> x, AttentionLists lists,
                   AttentionShape shape, const __grid_constant__ gpu::TensorMap keys,
                   const __grid_constant__ gpu::TensorMap values) {
  GPU_SHARED(BlockPlace, place, );
  GPU_SHARED(Ring, ring, );
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
  const mma::ForwardRows<kHeadWidth, T> rows(y, x, lists, shape, place);
  Consumer<T> consumer(tiles, ring, shape.scale * mma::kLog2OfE);
  Accumulators sums;
  for (int r = tile.num_ranges - 1; r >= 0; --r) {  // image keys first
    const AttentionRange range = range_of(lists, tile, r);
    const RowBounds bounds(bounds_of(lists, range));
    if (!goes_on(lists, tile, r)) consumer.begin(sums);
    consumer.add_range(sums, range, bounds);
    if (range.continues) continue;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float sum = mma::sum_of_row(consumer.sum[h]);
      if (bounds.of_half[h] != 0)
        rows.end_part(sums, h, row_of(h), range.slot, consumer.max[h], sum);
    }
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) rows.end_row(sums, h, row_of(h));
}

template <typename T>
gpu::TensorMap map_of(const Rows<const T>& x, const AttentionLists& lists,
                      const AttentionShape& shape) {
  return gpu::make_tensor_map(x.data, lists.key_rows, int64_t{shape.kv_heads} * kHeadWidth,
                              x.stride, kKeys, kPanelColumns);
}

bool is_hopper() {
  int device = 0, major = 0, minor = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
         cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess &&
         major == 9 && minor == 0;
}

}  // namespace

bool takes(const AttentionLists& lists, const AttentionShape& shape, RowAccess access) {
  return shape.width == kHeadWidth && access == RowAccess::kPacked && lists.key_rows > 0 &&
         !lists.has_windows && is_hopper();
}

template <typename T>
void forward(const AttentionOutputs<T>& y, const AttentionInputs<T>& x, const AttentionLists& lists,
             const AttentionShape& shape, cudaStream_t stream) {
  gpu::launch(stream,
              {.grid = mma::grid_of(lists.num_query_tiles, shape.heads),
               .block = kThreads,
               .shared_bytes = Tiles<T>::bytes()},
              forward_kernel<T>, y, x, lists, shape, map_of(x.k_NkD, lists, shape),
              map_of(x.v_NkD, lists, shape));
}

template void forward(const AttentionOutputs<gpu::bf16>&, const AttentionInputs<gpu::bf16>&,
                      const AttentionLists&, const AttentionShape&, cudaStream_t);
template void forward(const AttentionOutputs<gpu::f16>&, const AttentionInputs<gpu::f16>&,
                      const AttentionLists&, const AttentionShape&, cudaStream_t);

}  // namespace facet::cuda::hopper
