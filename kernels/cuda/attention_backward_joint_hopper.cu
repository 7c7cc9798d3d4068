// One kernel for dq, dk and dv (formulas in attention_backward.cu), with the five products that
// they take: blocks of 128 keys as in attention_backward_hopper.cu, which keep dk and dv, and add
// dS K of every step of 64 queries to fp32 sums in device memory. A second kernel scales and rounds
// those.
//
// Blocks take turns at the sums of a step's queries, so that they are added in one order: a counter
// for every head and block of 64 rows of q says how many have been. The lists hold each step's turn
// (attention_work.h). The first stores instead of adding. A block takes the next tile when it
// begins, and waits only for tiles that were taken before: no block waits for one that has no
// multiprocessor yet.
//
// Of the warpgroup that fetches each warp has its own part: one thread fetches tiles, one waits for
// turns, one passes them on, which has to wait until the sums have arrived in the L2 cache, and a
// warp brings statistics. With two parts a warp would need more than its 24 registers a thread.
//
// A step takes the tensor cores 2560 cycles. Shared memory is read and written for 2430 of them,
// and the sums of dq pass it on their way out, 256 more: there is no reserve. The order in which
// tiles begin (joint_order.h) has an H200 done 1.8 % after the ideal for 32 heads of two causal
// samples of 4096 tokens, in a model where a turn is passed on in 0.6 of a step: 1.2 % is waited
// for turns, and the rest is lost at the end, where multiprocessors find no tile.
#include "kernels/cuda/attention_backward_joint_hopper.h"

#include "kernels/cuda/attention_dkv_hopper.h"

namespace facet::cuda::hopper {
namespace {

constexpr int kTurnStages = 2;
constexpr int kWeightStages = 2;  // of dS: one is read while the next one is stored
constexpr int kWeightTile = kTileRows * kDkvQueries;
constexpr int kDqColumns = kHeadWidth / kConsumers;
static_assert(kWeightStages == 2 && kTurnStages == 2);  // powers of 2 cost nothing
static_assert(kDkvQueries == kStepRows && kDkvQueries == kConsumerRows);
static_assert(kDkvQueries == kPanelColumns && kDqColumns == kPanelColumns);

// The sums of a block of queries and a head: each consumer's accumulators, the four of a thread
// side by side.
constexpr int kSumsOfConsumer = kDkvQueries * kDqColumns;
constexpr int kSumsOfStep = kConsumers * kSumsOfConsumer;
using DqSums = Accumulators<kDqColumns>;

constexpr int kFoursOfThread = kDqColumns / 8;
constexpr int kFoursOfConsumer = gpu::kWarpgroupSize * 4;  // the n-th four of each thread

GPU_DEVICE int place_of_sums(int consumer) {
  return consumer * kSumsOfConsumer + thread_of_consumer() * 4;
}

GPU_DEVICE int blocks_of_queries(const AttentionLists& lists) {
  return (lists.query_rows + kStepRows - 1) / kStepRows;
}
GPU_DEVICE int64_t first_block(const AttentionLists& lists, int head) {
  return int64_t{head} * blocks_of_queries(lists);
}

struct JointRing {
  DkvRing dkv;
  Side<kTurnStages> turns;
  // Who passes turns on has seen that the stage is empty. Without it the next turn but one could
  // come, and go, while that thread still waits for its stores: the barrier's parity would then be
  // what it was, and the thread wait for ever.
  gpu::Barrier seen_empty[kTurnStages];
  gpu::Barrier weights;  // dS of both consumers is there
};

template <typename T>
struct JointTiles {
  GPU_DEVICE explicit JointTiles(gpu::Tiles& memory)
      : dkv(memory), weights(memory.take<T>(kWeightStages * kWeightTile)) {}
  static constexpr size_t bytes() {
    return DkvTiles<T>::bytes() + kWeightStages * kWeightTile * sizeof(T);
  }

  DkvTiles<T> dkv;
  T* weights;  // dS, rounded: rows are keys
};

struct JointPlace : BlockPlace {
  int32_t turn_begin;  // in the lists
};

// The next tile and head, for a block that begins.
GPU_DEVICE void take_place(JointPlace& place, const JointSums& sums, const AttentionLists& lists,
                           int heads) {
  if (threadIdx.x == 0) {
    const int number = atomicAdd(sums.taken, 1);
    const JointTile next = joint_tile(lists, number / heads);
    place.tile = key_tile(lists, static_cast<unsigned>(next.key_tile));
    place.head = number % heads;
    place.turn_begin = next.turn_begin;
  }
  __syncthreads();
}

// ---- turns: two threads of the warpgroup that fetches

// Calls body(counter, turn) for the steps of a block, in their order.
template <typename Body>
GPU_DEVICE void for_turns(const JointPlace& place, const JointSums& sums,
                          const AttentionLists& lists, const AttentionShape& shape,
                          const Body& body) {
  for (int h = 0; h < shape.group(); ++h) {
    int32_t* const counters = sums.counters + first_block(lists, place.head * shape.group() + h);
    const int32_t* turn = lists.data + place.turn_begin;
    for (int r = 0; r < place.tile.num_ranges; ++r) {
      const AttentionRange range = range_of(lists, place.tile, r);
      const int last = (range.begin + range.count - 1) / kStepRows;
      for (int block = range.begin / kStepRows; block <= last; ++block)
        body(counters + block, *turn++);
    }
  }
}

GPU_DEVICE void await_turns(JointRing& ring, int32_t* turn_of_stage, const JointPlace& place,
                            const JointSums& sums, const AttentionLists& lists,
                            const AttentionShape& shape) {
  RingPlace<kTurnStages> at;
  for_turns(place, sums, lists, shape, [&](const int32_t* counter, int32_t turn) {
    gpu::wait_barrier(ring.seen_empty[at.stage], at.parity ^ 1);
    gpu::await_count(counter, turn);
    turn_of_stage[at.stage] = turn;
    gpu::arrive(ring.turns.full[at.stage]);
    at.advance();
  });
}

GPU_DEVICE void pass_turns_on(JointRing& ring, const JointPlace& place, const JointSums& sums,
                              const AttentionLists& lists, const AttentionShape& shape) {
  RingPlace<kTurnStages> at;
  for_turns(place, sums, lists, shape, [&](int32_t* counter, int32_t turn) {
    gpu::wait_barrier(ring.turns.empty[at.stage], at.parity);
    gpu::arrive(ring.seen_empty[at.stage]);
    gpu::release_count(counter, turn + 1);
    at.advance();
  });
}

// ---- a consumer

// dq (64,64) of a step = dS (64,128) times a panel of the block's keys.
template <typename T>
GPU_DEVICE void start_dq(DqSums& dq, const T* weights, const T* key_panel) {
  constexpr int kUnused = 16;
  const uint64_t a_begin = gpu::operand_of_rows(weights, 0, kUnused);
  const uint64_t b_begin = gpu::operand_of_rows(key_panel, 0, kUnused);
  gpu::wgmma_fence(dq);
#pragma unroll
  for (int k = 0; k < kTileRows; k += 16) {
    constexpr int kRowBytes = kPanelColumns * static_cast<int>(sizeof(T));
    gpu::wgmma_m64n64k16<T, gpu::Major::kN, gpu::Major::kM>(
        dq, gpu::shifted(a_begin, k * kRowBytes), gpu::shifted(b_begin, k * kRowBytes), k > 0);
  }
  gpu::wgmma_commit();
}

template <typename T>
class JointConsumer {
 public:
  GPU_DEVICE JointConsumer(const JointTiles<T>& tiles, JointRing& ring,
                           const StepStatistics* statistics, const int32_t* turn_of_stage,
                           float* dq_sums, float factor)
      : tiles_(tiles),
        ring_(ring),
        statistics_(statistics),
        turn_of_stage_(turn_of_stage),
        dq_sums_(dq_sums),
        factor_(factor) {}

  // The range begins `rows_before` rows after its first step, which is of this block of queries in
  // the sums of dq. Its last `full` queries see all rows of the tile.
  GPU_DEVICE void add_range(Sums& dk, Sums& dv, const AttentionRange& range, int full,
                            int rows_before, const RowPositions& rows, uint32_t block) {
    fours_ =
        block * (kSumsOfStep / 4) + static_cast<uint32_t>(place_of_sums(consumer_of_thread()) / 4);
    int first = -rows_before;
    for (; first < range.count - full; first += kDkvQueries)
      add_step<true>(dk, dv, rows, range.is_mean);
    for (; first < range.count; first += kDkvQueries) add_step<false>(dk, dv, rows, false);
  }

 private:
  // Half of dk's products goes on while the consumers wait for each other, half while dq is added.
  template <bool kBoundary>
  GPU_DEVICE void add_step(Sums& dk, Sums& dv, const RowPositions& rows, bool is_mean) {
    const T* q = tiles_.dkv.q + queries_.stage * kStepTile;
    const T* dout = tiles_.dkv.dout + queries_.stage * kStepTile;
    T* weights = tiles_.weights + step_ % kWeightStages * kWeightTile;
    const StepStatistics& statistics = statistics_[queries_.stage];
    wait_until_full(ring_.dkv.queries, queries_);
    start_products<kDkvQueries>(weights_, tiles_.dkv.k, q);
    start_products<kDkvQueries>(products_, tiles_.dkv.v, dout);
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
    store_weights(weights);
    start_adding<kDkvQueries, 0, kDkvQueries / 2>(dk, ds_, q);
    gpu::wait_barrier(ring_.weights, step_ % 2);
    start_dq(products_, weights, panel_of_consumer(tiles_.dkv.k));
    start_adding<kDkvQueries, kDkvQueries / 2, kDkvQueries>(dk, ds_, q);
    gpu::wgmma_wait<1>(dv, p_, products_);
    add_dq();
    gpu::wgmma_wait<0>(dk, ds_);
    __syncwarp();  // all lanes have read the statistics
    release(ring_.dkv.queries, queries_.stage);
    queries_.advance();
    ++step_;
  }

  // dS for both consumers' products.
  GPU_DEVICE void store_weights(T* weights) {
#pragma unroll
    for (int n = 0; n < kDkvQueries / 8; ++n)
#pragma unroll
      for (int h = 0; h < 2; ++h)
        gpu::store_pair(weights + gpu::swizzled_place<T>(row_of(h), n) + mma::first_column(),
                        ds_[n / 2][n % 2 * 2 + h]);
    gpu::fence_async_proxy();
    __syncwarp();
    if (lane_of_thread() == 0) gpu::arrive(ring_.weights);
  }

  // The columns of dq that the consumer multiplies. (As in rows_of_consumer.)
  GPU_DEVICE static const T* panel_of_consumer(const T* tile) {
    const int consumer = __shfl_sync(gpu::kFullWarp, consumer_of_thread(), 0);
    return tile + consumer * kPanelSize<kTileRows>;
  }

  // When it is the block's turn.
  GPU_DEVICE void add_dq() {
    const unsigned stage = step_ % kTurnStages;
    gpu::wait_barrier(ring_.turns.full[stage], step_ / kTurnStages % 2);
    const bool is_first = turn_of_stage_[stage] == 0;
    float* const to = dq_sums_ + int64_t{fours_} * 4;
#pragma unroll
    for (int n = 0; n < kDqColumns / 8; ++n) {
      gpu::Pack<float> four;
#pragma unroll
      for (int i = 0; i < 4; ++i) four.v[i] = products_[n][i];
      if (is_first)
        gpu::store_pack_global(to + n * kFoursOfConsumer, four);
      else
        gpu::add_pack_global(to + n * kFoursOfConsumer, four);
    }
    __syncwarp();
    release(ring_.turns, static_cast<int>(stage));
    fours_ += kSumsOfStep / 4;
  }

  const JointTiles<T>& tiles_;
  JointRing& ring_;
  const StepStatistics* statistics_;
  const int32_t* turn_of_stage_;
  float* const dq_sums_;
  const float factor_;
  uint32_t fours_ = 0;  // of the thread's first four sums of the step
  unsigned step_ = 0;
  RingPlace<kDkvStages> queries_;
  Accumulators<kDkvQueries> weights_, products_;  // q.k, P, dS; dout.v, dq
  Weights<kDkvQueries> p_, ds_;
};

// ---- the kernels

template <typename T>
__global__ void __launch_bounds__(kThreads, 1)
    joint_kernel(TurnedRows<T> dk_NkD, Rows<T> dv_NkD, JointSums sums, AttentionSaved<T> saved,
                 AttentionLists lists, AttentionShape shape, const __grid_constant__ Maps maps) {
  GPU_SHARED(JointPlace, place, );
  GPU_SHARED(JointRing, ring, );
  GPU_SHARED(StepStatistics, statistics, [kDkvStages]);
  GPU_SHARED(int32_t, turn_of_stage, [kTurnStages]);
  gpu::Tiles memory;
  const JointTiles<T> tiles(memory);
  if (threadIdx.x == 0) {
    gpu::init_barrier(ring.weights, kConsumerWarps);
    init_side(ring.turns, 1);
    for (gpu::Barrier& seen : ring.seen_empty) gpu::init_barrier(seen, 1);
  }
  init_barriers(ring.dkv.rows, kDkvArrivals, ring.dkv.queries);
  take_place(place, sums, lists, shape.kv_heads);  // ends with a barrier
  const AttentionTile& tile = place.tile;
  const int group = shape.group();

  if (consumer_of_thread() < 0) {
    gpu::lower_registers<kDkvProducerRegisters>();
    const unsigned warp = threadIdx.x / unsigned{gpu::kWarpSize};
    if (warp == 3) bring_statistics<kStepRows>(statistics, ring.dkv, saved, lists, shape, place);
    if (lane_of_thread() != 0) return;
    if (warp == 0) fetch_for_dkv<kStepRows>(tiles.dkv, ring.dkv, maps, lists, shape, place);
    if (warp == 1) await_turns(ring, turn_of_stage, place, sums, lists, shape);
    if (warp == 2) pass_turns_on(ring, place, sums, lists, shape);
    return;
  }
  gpu::raise_registers<kDkvConsumerRegisters>();
  JointConsumer<T> consumer(tiles, ring, statistics, turn_of_stage, sums.dq, shape.factor);
  Sums dk, dv;
  clear(dk);
  clear(dv);
  gpu::wait_barrier(ring.dkv.rows, 0);
  for (int h = 0; h < group; ++h) {
    const auto block = static_cast<uint32_t>(first_block(lists, place.head * group + h));
    for (int r = 0; r < tile.num_ranges; ++r) {
      const AttentionRange range = range_of(lists, tile, r);
      // Rows behind the tile's last are those of another sample: hidden step by step.
      const int full = tile.num_rows == kTileRows ? range.full : 0;
      consumer.add_range(dk, dv, range, full, range.begin % kStepRows,
                         RowPositions(bounds_of(lists, range)),
                         block + static_cast<uint32_t>(range.begin / kStepRows));
    }
  }
  store_rows(dk_NkD, dv_NkD, dk, dv, saved, lists, shape, tile, place.head);
}

// A block for each block of rows of q and head.
template <typename T>
__global__ void __launch_bounds__(gpu::kWarpgroupSize)
    store_dq_kernel(TurnedRows<T> dq_NqD, const float* sums, AttentionLists lists,
                    AttentionShape shape) {
  const int block = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const float* from = sums + (first_block(lists, head) + block) * kSumsOfStep;
  Sums dq;
  clear(dq);
  if (lists.data[lists.turns_of_blocks + block] > 0) {
#pragma unroll
    for (int n = 0; n < kHeadWidth / 8; ++n) {
      const auto four = gpu::load_pack(from + place_of_sums(n / kFoursOfThread) +
                                       n % kFoursOfThread * kFoursOfConsumer);
#pragma unroll
      for (int i = 0; i < 4; ++i) dq[n][i] = four.v[i];
    }
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = block * kStepRows + thread_of_consumer() / gpu::kWarpSize * 16 +
                    lane_of_thread() / 4 + 8 * h;
    if (row >= lists.query_rows) continue;
    mma::multiply_row(dq, h, shape.scale);
    mma::store_turned_row<kHeadWidth>(dq_NqD.row(row) + int64_t{head} * kHeadWidth, 0, dq, h,
                                      dq_NqD.angles(row));
  }
}

}  // namespace

template <typename T>
void joint_backward(const AttentionGradients<T>& dx, const AttentionInputs<T>& x,
                    const AttentionSaved<T>& saved, const AttentionLists& lists,
                    const AttentionShape& shape, const JointSums& sums, cudaStream_t stream) {
  const int blocks = (lists.query_rows + kStepRows - 1) / kStepRows;
  if (lists.num_key_tiles > 0)
    gpu::launch(stream,
                {.grid = mma::grid_of(lists.num_key_tiles, shape.kv_heads),
                 .block = kThreads,
                 .shared_bytes = JointTiles<T>::bytes()},
                joint_kernel<T>, dx.dk_NkD, dx.dv_NkD, sums, saved, lists, shape,
                maps_of<kDkvQueries>(x, saved, lists, shape));
  if (blocks > 0)
    gpu::launch(stream,
                {.grid = {static_cast<unsigned>(blocks), static_cast<unsigned>(shape.heads)},
                 .block = gpu::kWarpgroupSize},
                store_dq_kernel<T>, dx.dq_NqD, sums.dq, lists, shape);
}

template void joint_backward(const AttentionGradients<gpu::bf16>&,
                             const AttentionInputs<gpu::bf16>&, const AttentionSaved<gpu::bf16>&,
                             const AttentionLists&, const AttentionShape&, const JointSums&,
                             cudaStream_t);
template void joint_backward(const AttentionGradients<gpu::f16>&, const AttentionInputs<gpu::f16>&,
                             const AttentionSaved<gpu::f16>&, const AttentionLists&,
                             const AttentionShape&, const JointSums&, cudaStream_t);

}  // namespace facet::cuda::hopper
