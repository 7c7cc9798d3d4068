// dq, dk and dv out of one kernel by mma.sync, with the five products that they take: a block of
// dkv_block() that also adds dS K of every step of 64 queries to fp32 sums in device memory. A
// second kernel scales and rounds those.
//
// Blocks take turns at the sums (attention_backward_joint_hopper.cu). Only one adds at a time, so
// it loads and stores them 16 bytes at once, past the multiprocessor's own cache; a thread of the
// first team waits for the turn, and one of the second passes it on, each where its team has the
// least to do.
//
// dS goes to the place of P, from where each warp loads 32 queries for 32 columns of dq. At width
// 128 a step is, of each warp,
//              products   ldmatrix
//   scores          128         48   one for 16 keys, two for 16 queries
//   dk or dv        128         32
//   dq               64         32
// and 0.35 ldmatrix a product. An A100 multiplies for 5120 cycles; ldmatrix reads shared memory for
// 3584 of them, P, dS, q and dout take 640, and the sums, which pass through the same pipe, 512.
#pragma once

#include "kernels/cuda/attention_backward_mma.h"
#include "kernels/cuda/attention_joint.h"

namespace facet::cuda::mma {

constexpr int kJointWidth = 128;
constexpr int kDqRowsOfWarp = kWarpRows, kDqColumnsOfWarp = 32;
static_assert(kStep * kJointWidth == kTeams * kTeamWarps * kDqRowsOfWarp * kDqColumnsOfWarp);
using DqOfWarp = Fragments<kDqColumnsOfWarp>;

// What a warp has of a step's dq: its first query, and its first column in either half of the head.
struct DqPlace {
  int row, column;

  GPU_DEVICE explicit DqPlace(int warp)
      : row(warp / kTeamWarps * kDqRowsOfWarp),
        column(warp % kTeamWarps * (kDqColumnsOfWarp / 2)) {}
};
GPU_DEVICE int warp_of_thread() { return static_cast<int>(threadIdx.x / unsigned{gpu::kWarpSize}); }

// The sums of a block of queries and a head as the threads hold them, the four of a thread side by
// side. Calls body(m, n, place) for each.
constexpr int kSumsOfStep = kStep * kJointWidth;
template <typename Sum, typename Body>
GPU_DEVICE void for_sums(Sum* sums_of_step, const Body& body) {
  constexpr int kTiles = kDqColumnsOfWarp / 8;
  Sum* const of_thread = sums_of_step + static_cast<int>(threadIdx.x) * 4;
#pragma unroll
  for (int m = 0; m < kFragments; ++m)
#pragma unroll
    for (int n = 0; n < kTiles; ++n)
      body(m, n, of_thread + (m * kTiles + n) * kBackwardThreads * 4);
}

GPU_DEVICE void load_sums(DqOfWarp& sums, const float* sums_of_step) {
  for_sums(sums_of_step, [&](int m, int n, const float* from) {
    const gpu::Pack<float> four = gpu::load_pack_global(from);
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[m][n][i] = four.v[i];
  });
}
GPU_DEVICE void store_sums(float* sums_of_step, const DqOfWarp& before, const DqOfWarp& dq) {
  for_sums(sums_of_step, [&](int m, int n, float* to) {
    gpu::Pack<float> four;
#pragma unroll
    for (int i = 0; i < 4; ++i) four.v[i] = before[m][n][i] + dq[m][n][i];
    gpu::store_pack_global(to, four);
  });
}

// The P of a step, and then its dS, in rows of keys. A thread of the second team finds P where it
// stores dS, so that both need one place.
template <typename T>
class StepWeights {
 public:
  using Element = T;
  static constexpr int kSize = kTileRows * kStride<kStep>;
  GPU_DEVICE explicit StepWeights(T* weights) : weights_(weights) {}

  // As in WeightExchange.
  GPU_DEVICE void put(const Fragments<kStep>& p) const {
    for_pairs([&](int m, int n, int h, T* place) {
      gpu::store_pair(place, gpu::pair_of<gpu::f16>(p[m][n][2 * h], p[m][n][2 * h + 1]));
    });
  }
  GPU_DEVICE void multiply(Fragments<kStep>& ds) const {
    for_pairs([&](int m, int n, int h, const T* place) {
      const TwoFloats p = floats_of<gpu::f16>(gpu::load_pair(place));
#pragma unroll
      for (int j = 0; j < 2; ++j) ds[m][n][2 * h + j] *= p.v[j];
    });
  }
  // The second team's weights are dS.
  template <int kWidth>
  GPU_DEVICE void add_weighted(Fragments<kWidth>& sum, const Fragments<kStep>& weights,
                               const T* rows) const {
#pragma unroll
    for (int k = 0; k < kStep; k += 16) {
      LeftOperands a;
      round_weights<T, kStep>(a, weights, k);
      if (team_of_thread() == 1) put_ds(a, k);
      add_operands<kWidth, kWidth>(sum, a, rows + k * kStride<kWidth>);
    }
  }
  // 16 keys from k as rows, of 32 queries as columns.
  GPU_DEVICE void get_ds(LeftOperands& a, int query, int k) const {
#pragma unroll
    for (int m = 0; m < kFragments; ++m)
      load_a_of_columns<kStep>(a[m], weights_ + k * kStride<kStep> + query + m * 16);
  }

 private:
  GPU_DEVICE T* place(int m, int n, int h) const {
    return weights_ + row_of(m, h) * kStride<kStep> + n * 8 + first_column();
  }
  template <typename Body>
  GPU_DEVICE void for_pairs(const Body& body) const {
#pragma unroll
    for (int m = 0; m < kFragments; ++m)
#pragma unroll
      for (int n = 0; n < kStep / 8; ++n)
#pragma unroll
        for (int h = 0; h < 2; ++h) body(m, n, h, place(m, n, h));
  }
  GPU_DEVICE void put_ds(const LeftOperands& a, int k) const {
#pragma unroll
    for (int m = 0; m < kFragments; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i) gpu::store_pair(place(m, k / 8 + i / 2, i % 2), a[m][i]);
  }
  T* weights_;
};

// The sums and turns of a range's steps. It lies in shared memory, like StreamedRange.
struct JointRange {
  float* sums;
  int32_t* counters;
  const int32_t* turns;
  int32_t steps;
};
struct JointBlock {
  JointPlace place;
  JointRange range;
  int32_t turn;  // of the step
};

// Adds dq up for dkv_block().
template <typename T>
class JointDq {
 public:
  using Exchange = StepWeights<T>;
  static constexpr bool kAddsDq = true;
  GPU_DEVICE JointDq(JointBlock& block, const JointSums& sums, const AttentionLists& lists,
                     const AttentionShape& shape)
      : block_(block), sums_(sums) {
    take_place(block.place, sums, lists, shape.kv_heads);
  }
  GPU_DEVICE int kv_head(const AttentionShape&) const { return block_.place.head; }

  // The i-th of all query heads' ranges, from this head on.
  GPU_DEVICE void begin_range(int i, int first_head, const AttentionLists& lists) const {
    if (threadIdx.x != 0) return;
    const JointPlace& place = block_.place;
    JointRange& range = block_.range;
    const int r = i % place.tile.num_ranges;
    const AttentionRange queries = range_of(lists, place.tile, r);
    const int first = queries.begin / kStepRows;
    const int64_t at = first_block(lists, first_head + i / place.tile.num_ranges) + first;
    range = {sums_.dq + at * kSumsOfStep, sums_.counters + at,
             r == 0 ? lists.data + place.turn_begin : range.turns + range.steps,
             (queries.begin + queries.count - 1) / kStepRows - first + 1};
  }
  // By all threads; ends while some of them store sums.
  GPU_DEVICE void add_step(int step, const Exchange& exchange, const T* keys) const {
    if (threadIdx.x == 0) {
      block_.turn = block_.range.turns[step];
      gpu::await_count(block_.range.counters + step, block_.turn);
    }
    __syncthreads();  // dS is there, and it is the block's turn
    float* const sums = block_.range.sums + int64_t{step} * kSumsOfStep;
    DqOfWarp before, dq;
    clear(before);
    clear(dq);
    if (block_.turn > 0) load_sums(before, sums);
    // By a shuffle: the compiler would keep addresses of its own through the loop otherwise.
    const DqPlace at(__shfl_sync(gpu::kFullWarp, warp_of_thread(), 0));
#pragma unroll
    for (int k = 0; k < kTileRows; k += 16) {
      LeftOperands a;
      exchange.get_ds(a, at.row, k);
      add_operands<kJointWidth, kDqColumnsOfWarp>(dq, a,
                                                  keys + k * kStride<kJointWidth> + at.column);
    }
    store_sums(sums, before, dq);
  }
  // When all threads have stored the sums of a step.
  GPU_DEVICE void pass_on(int step) const {
    if (threadIdx.x == kTeamThreads)
      gpu::release_count(block_.range.counters + step, block_.range.turns[step] + 1);
  }

 private:
  JointBlock& block_;
  const JointSums& sums_;
};

template <typename T>
__global__ void __launch_bounds__(kBackwardThreads, 1)
    joint_kernel(TurnedRows<T> dk_NkD, Rows<T> dv_NkD, JointSums sums, AttentionInputs<T> x,
                 AttentionSaved<T> saved, AttentionLists lists, AttentionShape shape) {
  GPU_SHARED(JointBlock, block, );
  const JointDq<T> dq(block, sums, lists, shape);
  dkv_block<Windows::kAbsent, kJointWidth>(dk_NkD, dv_NkD, x, saved, lists, shape, block.place, dq);
}

// A block for each block of rows of q and head.
template <typename T>
__global__ void __launch_bounds__(kBackwardThreads)
    store_dq_kernel(TurnedRows<T> dq_NqD, const float* sums, AttentionLists lists,
                    AttentionShape shape) {
  const int block = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const DqPlace at(warp_of_thread());
  DqOfWarp dq;
  clear(dq);
  if (lists.data[lists.turns_of_blocks + block] > 0)
    load_sums(dq, sums + (first_block(lists, head) + block) * kSumsOfStep);
#pragma unroll
  for (int m = 0; m < kFragments; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = block * kStepRows + at.row + m * 16 + lane_of_thread() / 4 + 8 * h;
      if (row >= lists.query_rows) continue;
      multiply_row(dq[m], h, shape.scale);
      store_turned_row<kJointWidth>(dq_NqD.row(row) + int64_t{head} * kJointWidth, at.column, dq[m],
                                    h, dq_NqD.angles(row));
    }
}

template <typename T>
using JointTiles = DkvTiles<kJointWidth, T, StepWeights<T>>;
// 157 KiB.
constexpr size_t kJointSharedBytes = JointTiles<gpu::bf16>::bytes();

// Overwrites dq, dk and dv; delta is there, and the counters of `sums` are 0.
template <typename T>
void joint_backward(const AttentionGradients<T>& dx, const AttentionInputs<T>& x,
                    const AttentionSaved<T>& saved, const AttentionLists& lists,
                    const AttentionShape& shape, const JointSums& sums, cudaStream_t stream) {
  const int blocks = (lists.query_rows + kStepRows - 1) / kStepRows;
  if (lists.num_key_tiles > 0)
    gpu::launch(stream,
                {.grid = grid_of(lists.num_key_tiles, shape.kv_heads),
                 .block = kBackwardThreads,
                 .shared_bytes = JointTiles<T>::bytes()},
                joint_kernel<T>, dx.dk_NkD, dx.dv_NkD, sums, x, saved, lists, shape);
  if (blocks > 0)
    gpu::launch(stream,
                {.grid = {static_cast<unsigned>(blocks), static_cast<unsigned>(shape.heads)},
                 .block = kBackwardThreads},
                store_dq_kernel<T>, dx.dq_NqD, sums.dq, lists, shape);
}

}  // namespace facet::cuda::mma
