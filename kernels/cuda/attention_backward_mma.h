// Backward attention on tensor cores, in bf16 and fp16 with fp32 sums (formulas in
// attention_backward.cu), by blocks of two teams. One kernel keeps a tile of query rows and
// computes dq (Nq,H*E), one block per tile and query head; the other keeps a tile of key rows and
// computes dk and dv (Nk,G*E), one block per tile and key/value head. All outputs are overwritten.
//
// Both kernels compute q.k and dout.v: seven products for the five that are needed. One kernel for
// all adds up dq over blocks, which have to take turns to have the same bits every time
// (attention_backward_joint_mma.h).
#pragma once

#include <algorithm>

#include "kernels/cuda/attention_delta.h"
#include "kernels/cuda/attention_mma.h"

namespace facet::cuda::mma {

constexpr int kTeams = 2, kBackwardThreads = kTeams * kTeamThreads;

// The rows that a team fetches, and the statistics that it stores, for both. They lie in shared
// memory: a choice between the kernel's parameters would take registers through the loops.
template <typename T>
struct Streamed {
  Rows<const T> rows_ND;
  const float* statistics_SHN;
};

// ---- dq: each team has 32 keys of a step. At widths 64 and 80 it adds up dq over its own keys,
// and in the end the sums of the second team are added to those of the first. At 128 it adds up
// half of dq's columns, the same of either half of the head, over the keys of both: dS goes from
// team to team through shared memory.
//
// A step's q.k and dout.v take a register for each of the 32 keys, dq one for each column that the
// team adds up; 50 or so of the 255 hold addresses and fragments on their way. The rest keeps
// fragments of q and dout: four registers, and an ldmatrix a step less. Of keys and values a step
// loads one for four products; of q and dout it would load width / 4 for 3 width / 2 products.
//   width   registers: scores, dq, kept   ldmatrix   products   a product
//    64               64   64   64  (all)        24         96       0.250
//    80               64   80   60  (15 of 20)   35        120       0.292
//   128               64   64   76  (19 of 32)   61        192       0.318
// At 128 all of dq's columns would leave nothing to keep them in: 80 for 192, 0.417.
constexpr int kDqKeys = kStep / 2;  // of a team
template <int kWidth>
constexpr bool kTeamsShareDs = kWidth == 128;
template <int kWidth>
constexpr int kDqColumns = kTeamsShareDs<kWidth> ? kWidth / kTeams : kWidth;
// Fragments of dout that a warp keeps, beside all of q: as many as 204 registers leave room for.
template <int kWidth>
constexpr int kKeptOfDout = std::min(kWidth / 8,
                                     (204 - 2 * kDqKeys - kDqColumns<kWidth> - 4 * kWidth / 8) / 4);

template <int kWidth, typename T>
class DqTiles {
 public:
  GPU_DEVICE explicit DqTiles(gpu::SharedArrays& arrays)
      : q(arrays.take<T>(2 * kTileRows * kStride<kWidth>)),
        dout(q + kTileRows * kStride<kWidth>),
        lse(arrays.take<float>(kTileRows)),
        delta(arrays.take<float>(kTileRows)),
        ds(arrays.take<uint32_t>(kDsSize)),
        k_(arrays.take<T>(2 * kStageSize)),
        v_(arrays.take<T>(2 * kStageSize)) {}
  static constexpr size_t bytes() {
    return (2 * kTileRows * kStride<kWidth> + 4 * kStageSize) * sizeof(T) +
           2 * kTileRows * sizeof(float) + kDsSize * sizeof(uint32_t);
  }
  T *q, *dout;
  float *lse, *delta;  // of the rows in a range, lse to base 2; rows outside it weigh nothing
  uint32_t* ds;        // of DsExchange, if the teams share it
  // The first team's keys, then the second's.
  GPU_DEVICE T* k(int stage) const { return k_ + stage * kStageSize; }
  GPU_DEVICE T* v(int stage) const { return v_ + stage * kStageSize; }

 private:
  static constexpr int kBlockKeys = kTeams * kDqKeys;
  static constexpr int kStageSize = kBlockKeys * kStride<kWidth>;
  static constexpr int kDsSize = kTeamsShareDs<kWidth> ? kTileRows * kBlockKeys / 2 : 0;
  T *k_, *v_;
};

// Hands the dS of a team to the other, as left operands. The same thread of both teams has the same
// rows: it finds the 16 bytes of a fragment where the other one put them. `key` is of the step.
class DsExchange {
 public:
  GPU_DEVICE explicit DsExchange(uint32_t* ds) : ds_(ds) {}

  GPU_DEVICE void put(const LeftOperands& a, int key) const {
#pragma unroll
    for (int m = 0; m < kFragments; ++m)
      gpu::store_pack(place(m, key), Four{{a[m][0], a[m][1], a[m][2], a[m][3]}});
  }
  GPU_DEVICE void get(LeftOperands& a, int key) const {
#pragma unroll
    for (int m = 0; m < kFragments; ++m) {
      const Four four = gpu::load_pack(place(m, key));
#pragma unroll
      for (int i = 0; i < 4; ++i) a[m][i] = four.v[i];
    }
  }

 private:
  using Four = gpu::Pack<uint32_t>;
  GPU_DEVICE uint32_t* place(int m, int key) const {
    return ds_ + ((key / 16 * kFragments + m) * kTeamThreads + thread_of_team()) * Four::kSize;
  }
  uint32_t* ds_;
};

// dP becomes dS = P (dP - delta), with products q.k in `scores`.
template <int kKeys>
GPU_DEVICE void multiply_by_weights(Fragments<kKeys>& dp, const Fragments<kKeys>& scores,
                                    const float* lse_of_row, const float* delta_of_row,
                                    float factor) {
  for_rows([&](int m, int h, int row) {
    const float lse = lse_of_row[row], delta = delta_of_row[row];
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int i = 2 * h; i < 2 * h + 2; ++i)
        dp[m][n][i] = gpu::fast_exp2(scores[m][n][i] * factor - lse) * (dp[m][n][i] - delta);
  });
}

// Adds the second team's sums to those of the first, through shared memory that nobody reads any
// more.
template <int kWidth>
GPU_DEVICE void join_teams(Fragments<kWidth>& sums, float* shared) {
  using Four = gpu::Pack<float>;
  const auto place = [&](int m, int n) {
    return shared + ((m * (kWidth / 8) + n) * kTeamThreads + thread_of_team()) * Four::kSize;
  };
  const auto for_packs = [&](const auto& body) {
#pragma unroll
    for (int m = 0; m < kFragments; ++m)
#pragma unroll
      for (int n = 0; n < kWidth / 8; ++n) body(sums[m][n], place(m, n));
  };
  __syncthreads();
  if (team_of_thread() == 1)
    for_packs([](const float(&c)[4], float* to) {
      gpu::store_pack(to, Four{{c[0], c[1], c[2], c[3]}});
    });
  __syncthreads();
  if (team_of_thread() == 0)
    for_packs([&](float(&c)[4], const float* from) {
      const Four other = gpu::load_pack(from);
#pragma unroll
      for (int i = 0; i < 4; ++i) c[i] += other.v[i];
    });
}

template <Windows kWindows, int kWidth, typename T>
GPU_DEVICE void dq_block(const TurnedRows<T>& dq_NqD, const AttentionInputs<T>& x,
                         const AttentionSaved<T>& saved, const AttentionLists& lists,
                         const AttentionShape& shape) {
  constexpr int kKeys = kDqKeys, kBlockKeys = kTeams * kKeys, kColumns = kDqColumns<kWidth>;
  GPU_SHARED(BlockPlace, place, );
  GPU_SHARED(Streamed<T>, streamed, [kTeams]);
  if (threadIdx.x == 0) {
    streamed[0] = {x.k_NkD, saved.lse_SHN};
    streamed[1] = {x.v_NkD, saved.delta_SHN};
  }
  find_place(place, lists, lists.query_tiles, shape.heads);  // ends with a barrier
  const AttentionTile& tile = place.tile;
  const int64_t at = int64_t{head_of_block(shape.heads)} * kWidth;
  const int team = team_of_thread();
  gpu::SharedArrays arrays;
  const DqTiles<kWidth, T> tiles(arrays);
  fetch_tile<kWidth>(
      team == 0 ? tiles.q : tiles.dout,
      HeadRows<T>(team == 0 ? x.q_NqD : saved.dout_NqD, at, tile.row_begin, tile.num_rows));
  const T* q_of_warp = tiles.q + row_of_warp() * kStride<kWidth>;
  const T* dout_of_warp = tiles.dout + row_of_warp() * kStride<kWidth>;
  const int first_of_team = team * kKeys, row_of_team = first_of_team * kStride<kWidth>;
  const int column_of_team = team * (kColumns / 2) % (kWidth / 2);  // in either half of the head
  const DsExchange exchange(tiles.ds);

  Fragments<kColumns> dq;
  clear(dq);
  int stage = 0;
  KeptRows<kWidth, kWidth / 8> kept_q;
  KeptRows<kWidth, kKeptOfDout<kWidth>> kept_dout;
  for (int r = 0; r < tile.num_ranges; ++r) {
    const AttentionRange range = range_of(lists, tile, r);
    const WarpBounds bounds(bounds_of(lists, range));
    const HeadRows<T> streamed_rows(streamed[team].rows_ND,
                                    int64_t{shape.kv_head(place.head)} * kWidth, range.begin,
                                    range.count);
    const auto fetch = [&](int to, int first) {
      streamed_rows.template fetch<kWidth, kBlockKeys>(team == 0 ? tiles.k(to) : tiles.v(to),
                                                       first);
      gpu::cp_async_commit();
    };
    __syncthreads();  // the statistics of the last range have been read
    {
      const int own = thread_of_team();
      const bool present = bounds_of(lists, range)[own] != 0;
      const float statistic = streamed[team].statistics_SHN[shape.statistic(
          range.slot, place.head, present ? tile.row_begin + own : 0)];
      if (team == 0)
        tiles.lse[own] = present ? statistic * kLog2OfE : INFINITY;
      else
        tiles.delta[own] = present ? statistic : 0;
    }
    fetch(stage, 0);
    if (r == 0) {
      gpu::cp_async_wait<1>();  // the stage may still be on its way
      __syncthreads();
      kept_q.load(q_of_warp);
      kept_dout.load(dout_of_warp);
    }

    const auto step = [&](auto is_boundary, int block_first) {
      constexpr bool kBoundary = decltype(is_boundary)::value;
      const int first = block_first + first_of_team;
      gpu::cp_async_wait<0>();
      __syncthreads();  // the stage is there, the other one and dS have been read
      if (block_first + kBlockKeys < range.count) fetch(stage ^ 1, block_first + kBlockKeys);
      // What the teams share is needed if a key of either is seen.
      const bool is_active =
          !kBoundary || (kTeamsShareDs<kWidth> ? block_first : first) < bounds.most();
      if (is_active) {
        Fragments<kKeys> ds, scores;
        clear(ds);
        clear(scores);
        add_products<kWidth, kKeys>(ds, dout_of_warp, tiles.v(stage) + row_of_team, kept_dout);
        if (!kBoundary || !range_of(lists, tile, r).is_mean)
          add_products<kWidth, kKeys>(scores, q_of_warp, tiles.k(stage) + row_of_team, kept_q);
        if (kBoundary) hide_later_keys<kKeys>(scores, bounds, first);
        if (kBoundary && may_hide(kWindows, lists, tile, r))
          hide_earlier_keys<kKeys>(scores, hidden_of_rows(lists, range_of(lists, tile, r)), first);
        multiply_by_weights<kKeys>(ds, scores, tiles.lse, tiles.delta, shape.factor);
        const T* keys = tiles.k(stage) + row_of_team + column_of_team;
#pragma unroll
        for (int k = 0; k < kKeys; k += 16) {
          LeftOperands a;
          round_weights<T, kKeys>(a, ds, k);
          if (kTeamsShareDs<kWidth>) exchange.put(a, first_of_team + k);
          add_operands<kWidth, kColumns>(dq, a, keys + k * kStride<kWidth>);
        }
      }
      if constexpr (kTeamsShareDs<kWidth>) {
        __syncthreads();  // dS is there
        if (is_active) {
          const int others = kKeys - first_of_team;
          const T* keys = tiles.k(stage) + others * kStride<kWidth> + column_of_team;
#pragma unroll
          for (int k = 0; k < kKeys; k += 16) {
            LeftOperands a;
            exchange.get(a, others + k);
            add_operands<kWidth, kColumns>(dq, a, keys + k * kStride<kWidth>);
          }
        }
      }
      stage ^= 1;
    };
    int first = 0;
    for (; first + kBlockKeys <= range.full; first += kBlockKeys) step(std::false_type(), first);
    for (; first < range.count; first += kBlockKeys) step(std::true_type(), first);
  }
  gpu::cp_async_wait<0>();  // if the tile has no ranges
  if constexpr (!kTeamsShareDs<kWidth>) {
    join_teams<kWidth>(dq, reinterpret_cast<float*>(tiles.q));
    if (team == 1) return;
  }
  for_rows([&](int m, int h, int i) {
    if (i >= tile.num_rows) return;
    const int64_t row = tile.row_begin + i;
    multiply_row(dq[m], h, shape.scale);
    store_turned_row<kWidth>(dq_NqD.row(row) + int64_t{place.head} * kWidth, column_of_team, dq[m],
                             h, dq_NqD.angles(row));
  });
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kBackwardThreads, 1)
    dq_kernel(TurnedRows<T> dq_NqD, AttentionInputs<T> x, AttentionSaved<T> saved,
              AttentionLists lists, AttentionShape shape) {
  dq_block<Windows::kAbsent, kWidth>(dq_NqD, x, saved, lists, shape);
}
template <int kWidth, typename T>
__global__ void __launch_bounds__(kBackwardThreads, 1)
    dq_window_kernel(TurnedRows<T> dq_NqD, AttentionInputs<T> x, AttentionSaved<T> saved,
                     AttentionLists lists, AttentionShape shape) {
  dq_block<Windows::kPresent, kWidth>(dq_NqD, x, saved, lists, shape);
}

// ---- dk and dv: two warps, one of each team, share 32 keys. The first computes P and dv, the
// second dP, and dk from the first's P. Scores are transposed here, rows are keys: so P and dS are
// left operands as they are.

template <int kWidth, typename T, typename Exchange>
class DkvTiles {
 public:
  GPU_DEVICE explicit DkvTiles(gpu::SharedArrays& arrays)
      : k(arrays.take<T>(kTileRows * kStride<kWidth>)),
        v(arrays.take<T>(kTileRows * kStride<kWidth>)),
        q_(arrays.take<T>(2 * kStageSize)),
        dout_(arrays.take<T>(2 * kStageSize)),
        query_numbers_(arrays.take<float>(2 * kBackwardThreads)),
        positions(arrays.take<int32_t>(kTileRows)),
        weights(arrays.take<typename Exchange::Element>(Exchange::kSize)) {}
  static constexpr size_t bytes() {
    return (2 * kTileRows * kStride<kWidth> + 4 * kStageSize + Exchange::kSize) * sizeof(T) +
           2 * kBackwardThreads * sizeof(float) + kTileRows * sizeof(int32_t);
  }
  GPU_DEVICE T* q(int stage) const { return q_ + stage * kStageSize; }
  GPU_DEVICE T* dout(int stage) const { return dout_ + stage * kStageSize; }
  // Four numbers of each of a step's queries, in the order of the threads that store them: lse to
  // base 2; the keys that it sees, as bits; delta; the keys at the front that it does not see, as
  // bits. Queries after the last weigh nothing and have its limits.
  GPU_DEVICE float* query_numbers(int stage) const {
    return query_numbers_ + stage * kBackwardThreads;
  }
  GPU_DEVICE const float* lse(int stage) const { return query_numbers(stage); }
  GPU_DEVICE const float* visible(int stage) const { return query_numbers(stage) + kStep; }
  GPU_DEVICE const float* delta(int stage) const { return query_numbers(stage) + 2 * kStep; }
  GPU_DEVICE const float* hidden(int stage) const { return query_numbers(stage) + 3 * kStep; }
  T *k, *v;

 private:
  static constexpr int kStageSize = kStep * kStride<kWidth>;
  static_assert(kBackwardThreads == 4 * kStep);
  T *q_, *dout_;
  float* query_numbers_;

 public:
  int32_t* positions;  // of the tile's keys in the range, see bounds_of()
  typename Exchange::Element* weights;
};

// Hands the P of a thread to the thread with the same elements in the other team. fp16 holds
// weights to 11 bits, more than what dS is rounded to in bf16.
class WeightExchange {
 public:
  using Element = gpu::f16;
  static constexpr int kSize = kTileRows * kStep;  // as the threads hold it
  GPU_DEVICE explicit WeightExchange(gpu::f16* weights) : weights_(weights) {}

  GPU_DEVICE void put(const Fragments<kStep>& p) const {
    for_packs([&](int m, int n, gpu::f16* place) {
      Eight eight;
#pragma unroll
      for (int i = 0; i < 8; ++i) eight.v[i] = gpu::from_float<gpu::f16>(p[m][n + i / 4][i % 4]);
      gpu::store_pack(place, eight);
    });
  }
  // ds = P ds.
  GPU_DEVICE void multiply(Fragments<kStep>& ds) const {
    for_packs([&](int m, int n, const gpu::f16* place) {
      const Eight eight = gpu::load_pack(place);
#pragma unroll
      for (int i = 0; i < 8; ++i) ds[m][n + i / 4][i % 4] *= gpu::to_float(eight.v[i]);
    });
  }

 private:
  using Eight = gpu::Pack<gpu::f16>;
  template <typename Body>
  GPU_DEVICE void for_packs(const Body& body) const {
#pragma unroll
    for (int m = 0; m < kFragments; ++m)
#pragma unroll
      for (int n = 0; n < kStep / 8; n += 2)
        body(m, n,
             weights_ +
                 ((m * (kStep / 8) + n) / 2 * kTeamThreads + thread_of_team()) * Eight::kSize);
  }
  gpu::f16* weights_;
};

// Calls body(n, j, value) for the two values of the thread's columns of every column tile n.
template <typename Body>
GPU_DEVICE void for_columns(const float* values, const Body& body) {
#pragma unroll
  for (int n = 0; n < kStep / 8; ++n)
#pragma unroll
    for (int j = 0; j < 2; ++j) body(n, j, values[n * 8 + first_column() + j]);
}

// An integer as a float with the same bits: an array and a register can hold either.
GPU_DEVICE float float_of_bits(int32_t bits) {
  float value;
  memcpy(static_cast<void*>(&value), &bits, sizeof value);
  return value;
}
GPU_DEVICE int32_t bits_of(float value) {
  int32_t bits;
  memcpy(static_cast<void*>(&bits), &value, sizeof bits);
  return bits;
}

// Hides the queries for which is_hidden(position of the key, the query's limit).
template <typename IsHidden>
GPU_DEVICE void hide_queries(Fragments<kStep>& scores, const int32_t* position_of_row,
                             const float* limit_of_column, const IsHidden& is_hidden) {
  for_rows([&](int m, int h, int row) {
    const int position = position_of_row[row];
    for_columns(limit_of_column, [&](int n, int j, float limit) {
      if (is_hidden(position, bits_of(limit))) scores[m][n][2 * h + j] = -INFINITY;
    });
  });
}

struct QueryHeads {
  int first, count;
};

// And by team the limits of every range's queries: the keys that a query sees, or those at the
// front that it does not see.
template <typename T>
struct StreamedQueries : Streamed<T> {
  const int32_t* limits;
};

// A range as a team streams it. It lies in shared memory, too: its threads need it when they fetch
// a step, and not while they multiply, when sums and weights take 192 registers.
template <typename T>
struct StreamedRange {
  AttentionRange range;
  HeadRows<T> rows;
  const float* statistics;
  const int32_t *limits, *bounds;
  int number;  // of all heads' ranges
};
template <int kWidth, typename T>
GPU_DEVICE StreamedRange<T> streamed_range(const StreamedQueries<T>& streamed, int number,
                                           int first_head, const AttentionTile& tile,
                                           const AttentionLists& lists,
                                           const AttentionShape& shape) {
  const AttentionRange range = range_of(lists, tile, number % tile.num_ranges);
  const int head = first_head + number / tile.num_ranges;
  return {range,
          HeadRows<T>(streamed.rows_ND, int64_t{head} * kWidth, range.begin, range.count),
          streamed.statistics_SHN + shape.statistic(range.slot, head, range.begin),
          streamed.limits + range.visible_begin,
          bounds_of(lists, range),
          number};
}

// A block that leaves dq to another kernel. (One that adds dq up: attention_backward_joint_mma.h.)
class WithoutDq {
 public:
  using Exchange = WeightExchange;
  static constexpr bool kAddsDq = false;
  GPU_DEVICE WithoutDq(BlockPlace& place, const AttentionLists& lists,
                       const AttentionShape& shape) {
    find_place(place, lists, lists.key_tiles, shape.kv_heads);
  }
  GPU_DEVICE int kv_head(const AttentionShape& shape) const {
    return head_of_block(shape.kv_heads);
  }
};

// `dq` says which tile and head the block has, which lie at `place`.
template <Windows kWindows, int kWidth, typename T, typename Dq>
GPU_DEVICE void dkv_block(const TurnedRows<T>& dk_NkD, const Rows<T>& dv_NkD,
                          const AttentionInputs<T>& x, const AttentionSaved<T>& saved,
                          const AttentionLists& lists, const AttentionShape& shape,
                          const BlockPlace& place, const Dq& dq) {
  GPU_SHARED(StreamedQueries<T>, streamed, [kTeams]);
  GPU_SHARED(StreamedRange<T>, ranges, [kTeams]);
  GPU_SHARED(QueryHeads, query_heads, );
  if (threadIdx.x == 0) {
    query_heads = {dq.kv_head(shape) * shape.group(), shape.group()};
    streamed[0] = {{x.q_NqD, saved.lse_SHN}, lists.data + lists.visible_keys};
    streamed[1] = {{saved.dout_NqD, saved.delta_SHN}, lists.data + lists.hidden_keys};
  }
  __syncthreads();
  const AttentionTile& tile = place.tile;
  const int64_t kv_at = int64_t{dq.kv_head(shape)} * kWidth;
  const bool is_first_team = team_of_thread() == 0;
  gpu::SharedArrays arrays;
  const DkvTiles<kWidth, T, typename Dq::Exchange> tiles(arrays);
  fetch_tile<kWidth>(
      is_first_team ? tiles.k : tiles.v,
      HeadRows<T>(is_first_team ? x.k_NkD : x.v_NkD, kv_at, tile.row_begin, tile.num_rows));
  const T* own_rows = (is_first_team ? tiles.k : tiles.v) + row_of_warp() * kStride<kWidth>;
  const typename Dq::Exchange exchange(tiles.weights);

  Fragments<kWidth> sums;  // dv of the first team, dk of the second
  clear(sums);
  const StreamedRange<T>& now = ranges[team_of_thread()];
  for (int number = 0; number < query_heads.count * tile.num_ranges; number = now.number + 1) {
    const int own = thread_of_team();
    __syncthreads();  // the last range has been read
    if (own == 0)
      ranges[team_of_thread()] = streamed_range<kWidth>(streamed[team_of_thread()], number,
                                                        query_heads.first, tile, lists, shape);
    if constexpr (Dq::kAddsDq) dq.begin_range(number, query_heads.first, lists);
    __syncthreads();
    if (is_first_team) tiles.positions[own] = now.bounds[own];
    const int least = WarpBounds(now.bounds).least();
    const auto fetch = [&](int to, int first) {
      const HeadRows<T> rows = now.rows;
      rows.template fetch<kWidth, kStep, Dq::kAddsDq>(is_first_team ? tiles.q(to) : tiles.dout(to),
                                                      first);
      gpu::cp_async_commit();
    };
    // What the thread stores of a step's queries: half of the team statistics, half limits.
    const auto query_number = [&](int first) {
      const int i = first + own % kStep, last = now.range.count - 1;
      if (own < kStep) {
        if (row_within(i, last) != i) return is_first_team ? INFINITY : 0;
        return now.statistics[i] * (is_first_team ? kLog2OfE : 1);
      }
      if (is_first_team || (kWindows == Windows::kPresent && now.range.is_window))
        return float_of_bits(now.limits[row_within(i, last)]);
      return 0.0f;
    };
    // The sums of dq are of blocks of rows of q: their steps begin with the block.
    const auto rows_before = [&] { return Dq::kAddsDq ? now.range.begin % kStep : 0; };
    fetch(0, -rows_before());
    tiles.query_numbers(0)[threadIdx.x] = query_number(-rows_before());

    const auto step = [&](auto is_boundary, int first) {
      constexpr bool kBoundary = decltype(is_boundary)::value;
      const int index = (first + rows_before()) / kStep, stage = index % 2;
      gpu::cp_async_wait<0>();
      __syncthreads();  // the stage is there, the other one, P and dS have been read
      if constexpr (Dq::kAddsDq)
        if (index > 0) dq.pass_on(index - 1);
      float next = 0;
      if (first + kStep < now.range.count) {
        fetch(stage ^ 1, first + kStep);
        next = query_number(first + kStep);
      }
      const bool is_active =
          Dq::kAddsDq || !kBoundary || least < bits_of(tiles.visible(stage)[kStep - 1]);
      Fragments<kStep> weights;  // P of the first team, dS of the second
      if (is_active) {
        clear(weights);
        if (!kBoundary || !is_first_team || !now.range.is_mean)
          add_products<kWidth, kStep>(weights, own_rows,
                                      is_first_team ? tiles.q(stage) : tiles.dout(stage));
        if (is_first_team) {
          if (kBoundary)
            hide_queries(weights, tiles.positions, tiles.visible(stage),
                         [](int position, int seen) { return position >= seen; });
          if (kBoundary && kWindows == Windows::kPresent && now.range.is_window)
            hide_queries(weights, tiles.positions, tiles.hidden(stage),
                         [](int position, int first_seen) { return position < first_seen; });
          for_columns(tiles.lse(stage), [&](int n, int j, float lse) {
#pragma unroll
            for (int m = 0; m < kFragments; ++m)
#pragma unroll
              for (int i = j; i < 4; i += 2)
                weights[m][n][i] = gpu::fast_exp2(weights[m][n][i] * shape.factor - lse);
          });
          exchange.put(weights);
        } else {
          for_columns(tiles.delta(stage), [&](int n, int j, float delta) {
#pragma unroll
            for (int m = 0; m < kFragments; ++m)
#pragma unroll
              for (int i = j; i < 4; i += 2) weights[m][n][i] -= delta;
          });
        }
      }
      tiles.query_numbers(stage ^ 1)[threadIdx.x] = next;
      __syncthreads();  // P is there
      if (is_active) {
        if (!is_first_team) exchange.multiply(weights);
        const T* queries = is_first_team ? tiles.dout(stage) : tiles.q(stage);
        if constexpr (Dq::kAddsDq)
          exchange.template add_weighted<kWidth>(sums, weights, queries);
        else
          add_weighted<kWidth, kStep>(sums, weights, queries);
      }
      if constexpr (Dq::kAddsDq) dq.add_step(index, exchange, tiles.k);
    };
    // Keys behind the tile's last are copies of it. dk and dv do not store theirs, but dq would add
    // them up: they are hidden step by step.
    const auto full = [&] { return Dq::kAddsDq && tile.num_rows < kTileRows ? 0 : now.range.full; };
    int first = -rows_before();
    for (; first < now.range.count - full(); first += kStep) step(std::true_type(), first);
    for (; first < now.range.count; first += kStep) step(std::false_type(), first);
    if constexpr (Dq::kAddsDq) {
      __syncthreads();  // dq has been added
      dq.pass_on((first + rows_before()) / kStep - 1);
    }
  }
  gpu::cp_async_wait<0>();  // if the tile has no ranges
  for_rows([&](int m, int h, int i) {
    if (i >= tile.num_rows) return;
    const int64_t row = tile.row_begin + i;
    const int64_t at = int64_t{place.head} * kWidth;
    if (!is_first_team) {
      multiply_row(sums[m], h, shape.scale);
      store_turned_row<kWidth>(dk_NkD.row(row) + at, 0, sums[m], h, dk_NkD.angles(row));
      return;
    }
    if (const int query = self_query(lists, row); query >= 0)
      for (int head = query_heads.first; head < query_heads.first + query_heads.count; ++head)
        add_row<T>(sums[m], h, saved.dout_NqD.row(query) + int64_t{head} * kWidth);
    store_row(dv_NkD.row(row) + at, sums[m], h);
  });
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kBackwardThreads, 1)
    dkv_kernel(TurnedRows<T> dk_NkD, Rows<T> dv_NkD, AttentionInputs<T> x, AttentionSaved<T> saved,
               AttentionLists lists, AttentionShape shape) {
  GPU_SHARED(BlockPlace, place, );
  const WithoutDq dq(place, lists, shape);
  dkv_block<Windows::kAbsent, kWidth>(dk_NkD, dv_NkD, x, saved, lists, shape, place, dq);
}
template <int kWidth, typename T>
__global__ void __launch_bounds__(kBackwardThreads, 1)
    dkv_window_kernel(TurnedRows<T> dk_NkD, Rows<T> dv_NkD, AttentionInputs<T> x,
                      AttentionSaved<T> saved, AttentionLists lists, AttentionShape shape) {
  GPU_SHARED(BlockPlace, place, );
  const WithoutDq dq(place, lists, shape);
  dkv_block<Windows::kPresent, kWidth>(dk_NkD, dv_NkD, x, saved, lists, shape, place, dq);
}

// What a block of either kernel needs: 91 KiB at width 64, 107 at 80, 155 at 128.
template <int kWidth>
constexpr size_t kBackwardSharedBytes = std::max(
    DqTiles<kWidth, gpu::bf16>::bytes(), DkvTiles<kWidth, gpu::bf16, WeightExchange>::bytes());

}  // namespace facet::cuda::mma
