// Backward attention on tensor cores, in bf16 and fp16 with fp32 sums (formulas in
// attention_backward.cu), by blocks of two teams. One kernel keeps a tile of query rows and
// computes dq (Nq,H*E), one block per tile and query head; the other keeps a tile of key rows and
// computes dk and dv (Nk,G*E), one block per tile and key/value head. All outputs are overwritten.
//
// Both kernels compute q.k and dout.v: seven products for the five that are needed. One kernel for
// all would add up dq over blocks, and their order, or a buffer of fp32 sums for every tile of
// keys, is the price of having the same bits every time.
#pragma once

#include "kernels/cuda/attention_delta.h"
#include "kernels/cuda/attention_mma.h"

namespace facet::cuda::mma {

constexpr int kTeams = 2, kBackwardThreads = kTeams * kTeamThreads;

// ---- dq: the teams take turns with the keys; in the end the sums of the second are added to
// those of the first

// A step's q.k and dout.v take a register for each of its keys, dq one for each column; 45 or so of
// the 255 hold addresses and fragments on their way. At width 128 that leaves 32 keys: 64 would
// make 256.
template <int kWidth>
constexpr int kDqKeys = kWidth == 128 ? 32 : kStep;
// Fragments of q that a warp keeps: four registers, and an ldmatrix a step less. At 64 there is
// room for three: 61 ldmatrix for 192 products, 0.318. At 80 there is none, where four would make
// it 76 for 240; 128 would need 19, 76 registers, for 61 of 192 instead of 80. With P rounded to
// fp16 before dout.v is computed, as in dkv, 80 had nearly room for four (0.317) and 128 for eight
// (0.375), for 0.3 to 0.5 instructions more a product.
template <int kWidth>
constexpr int kDqKept = kWidth == 64 ? 3 : 0;

template <int kWidth, typename T>
class DqTiles {
 public:
  GPU_DEVICE explicit DqTiles(gpu::SharedArrays& arrays)
      : q(arrays.take<T>(2 * kTileRows * kStride<kWidth>)),
        dout(q + kTileRows * kStride<kWidth>),
        lse(arrays.take<float>(kTileRows)),
        delta(arrays.take<float>(kTileRows)),
        k_(arrays.take<T>(2 * kStageSize) + team_of_thread() * kTeamSize),
        v_(arrays.take<T>(2 * kStageSize) + team_of_thread() * kTeamSize) {}
  static constexpr size_t bytes() {
    return (2 * kTileRows * kStride<kWidth> + 4 * kStageSize) * sizeof(T) +
           2 * kTileRows * sizeof(float);
  }
  T *q, *dout;
  float *lse, *delta;  // of the rows in a range, lse to base 2; rows outside it weigh nothing
  // The team's own.
  GPU_DEVICE T* k(int stage) const { return k_ + stage * kStageSize; }
  GPU_DEVICE T* v(int stage) const { return v_ + stage * kStageSize; }

 private:
  static constexpr int kTeamSize = kDqKeys<kWidth> * kStride<kWidth>;
  static constexpr int kStageSize = kTeams * kTeamSize;
  T *k_, *v_;
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
// more, and scales them.
template <int kWidth>
GPU_DEVICE void join_teams(Fragments<kWidth>& sums, float* shared, float scale) {
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
      for (int i = 0; i < 4; ++i) c[i] = (c[i] + other.v[i]) * scale;
    });
}

template <Windows kWindows, int kWidth, typename T>
GPU_DEVICE void dq_block(const Rows<T>& dq_NqD, const AttentionInputs<T>& x,
                         const AttentionSaved<T>& saved, const AttentionLists& lists,
                         const AttentionShape& shape) {
  constexpr int kKeys = kDqKeys<kWidth>, kBlockKeys = kTeams * kKeys;
  GPU_SHARED(BlockPlace, place, );
  find_place(place, lists, lists.query_tiles, shape.heads);
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

  Fragments<kWidth> dq;
  clear(dq);
  int stage = 0;
  KeptRows<kWidth, kDqKept<kWidth>> kept_q;
  for (int r = 0; r < tile.num_ranges; ++r) {
    const AttentionRange range = range_of(lists, tile, r);
    const WarpBounds bounds(bounds_of(lists, range));
    const int first_of_team = team * kKeys;
    // Once a range: it would take two registers through the loops.
    const int64_t kv_at = int64_t{shape.kv_head(place.head)} * kWidth;
    const HeadRows<T> keys(x.k_NkD, kv_at, range.begin, range.count);
    const HeadRows<T> values(x.v_NkD, kv_at, range.begin, range.count);
    const auto fetch = [&](int to, int first) {
      keys.template fetch<kWidth, kKeys>(tiles.k(to), first);
      values.template fetch<kWidth, kKeys>(tiles.v(to), first);
      gpu::cp_async_commit();
    };
    __syncthreads();  // the statistics of the last range have been read
    {
      const int own = thread_of_team();
      const bool present = bounds_of(lists, range)[own] != 0;
      const int64_t own_at =
          shape.statistic(range.slot, place.head, present ? tile.row_begin + own : 0);
      if (team == 0)
        tiles.lse[own] = present ? saved.lse_SHN[own_at] * kLog2OfE : INFINITY;
      else
        tiles.delta[own] = present ? saved.delta_SHN[own_at] : 0;
    }
    fetch(stage, first_of_team);
    if (r == 0 && kDqKept<kWidth> != 0) {
      gpu::cp_async_wait<1>();  // the stage may still be on its way
      __syncthreads();
      kept_q.load(q_of_warp);
    }

    const auto step = [&](auto is_boundary, int block_first) {
      constexpr bool kBoundary = decltype(is_boundary)::value;
      const int first = block_first + first_of_team;
      gpu::cp_async_wait<0>();
      __syncthreads();  // the stage is there, the other one has been read
      if (block_first + kBlockKeys < range.count) fetch(stage ^ 1, first + kBlockKeys);
      if (!kBoundary || first < bounds.most()) {
        Fragments<kKeys> ds, scores;
        clear(ds);
        clear(scores);
        add_products<kWidth, kKeys>(ds, dout_of_warp, tiles.v(stage));
        if (!kBoundary || !range_of(lists, tile, r).is_mean)
          add_products<kWidth, kKeys>(scores, q_of_warp, tiles.k(stage), kept_q);
        if (kBoundary) hide_later_keys<kKeys>(scores, bounds, first);
        if (kBoundary && may_hide(kWindows, lists, tile, r))
          hide_earlier_keys<kKeys>(scores, hidden_of_rows(lists, range_of(lists, tile, r)), first);
        multiply_by_weights<kKeys>(ds, scores, tiles.lse, tiles.delta, shape.factor);
        add_weighted<kWidth, kKeys>(dq, ds, tiles.k(stage));
      }
      stage ^= 1;
    };
    int first = 0;
    for (; first + kBlockKeys <= range.full; first += kBlockKeys) step(std::false_type(), first);
    for (; first < range.count; first += kBlockKeys) step(std::true_type(), first);
  }
  gpu::cp_async_wait<0>();  // if the tile has no ranges
  join_teams<kWidth>(dq, reinterpret_cast<float*>(tiles.q), shape.scale);
  if (team == 1) return;
  for_rows([&](int m, int h, int i) {
    if (i < tile.num_rows)
      store_row(dq_NqD.row(tile.row_begin + i) + int64_t{place.head} * kWidth, dq[m], h);
  });
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kBackwardThreads, 1)
    dq_kernel(Rows<T> dq_NqD, AttentionInputs<T> x, AttentionSaved<T> saved, AttentionLists lists,
              AttentionShape shape) {
  dq_block<Windows::kAbsent, kWidth>(dq_NqD, x, saved, lists, shape);
}
template <int kWidth, typename T>
__global__ void __launch_bounds__(kBackwardThreads, 1)
    dq_window_kernel(Rows<T> dq_NqD, AttentionInputs<T> x, AttentionSaved<T> saved,
                     AttentionLists lists, AttentionShape shape) {
  dq_block<Windows::kPresent, kWidth>(dq_NqD, x, saved, lists, shape);
}

// ---- dk and dv: two warps, one of each team, share 32 keys. The first computes P and dv, the
// second dP, and dk from the first's P. Scores are transposed here, rows are keys: so P and dS are
// left operands as they are.

template <int kWidth, typename T>
class DkvTiles {
 public:
  GPU_DEVICE explicit DkvTiles(gpu::SharedArrays& arrays)
      : k(arrays.take<T>(kTileRows * kStride<kWidth>)),
        v(arrays.take<T>(kTileRows * kStride<kWidth>)),
        q_(arrays.take<T>(2 * kStageSize)),
        dout_(arrays.take<T>(2 * kStageSize)),
        lse_(arrays.take<float>(2 * kStep)),
        delta_(arrays.take<float>(2 * kStep)),
        weights(arrays.take<gpu::f16>(kTileRows * kStep)) {}
  static constexpr size_t bytes() {
    return (2 * kTileRows * kStride<kWidth> + 4 * kStageSize + kTileRows * kStep) * sizeof(T) +
           4 * kStep * sizeof(float);
  }
  GPU_DEVICE T* q(int stage) const { return q_ + stage * kStageSize; }
  GPU_DEVICE T* dout(int stage) const { return dout_ + stage * kStageSize; }
  GPU_DEVICE float* lse(int stage) const { return lse_ + stage * kStep; }
  GPU_DEVICE float* delta(int stage) const { return delta_ + stage * kStep; }
  T *k, *v;

 private:
  static constexpr int kStageSize = kStep * kStride<kWidth>;
  T *q_, *dout_;
  float *lse_, *delta_;  // of a step's queries, lse to base 2; queries after the last weigh nothing

 public:
  gpu::f16* weights;  // P, as the threads hold it
};

// Hands the P of a thread to the thread with the same elements in the other team. fp16 holds
// weights to 11 bits, more than what dS is rounded to in bf16.
class WeightExchange {
 public:
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

// Hides the queries that do not see a key; visible[0] is of the step's first query, visible[last]
// of the last.
GPU_DEVICE void hide_earlier_queries(Fragments<kStep>& scores, const int32_t* position_of_row,
                                     const int32_t* visible, int last) {
  int position[kFragments][2];
  for_rows([&](int m, int h, int row) { position[m][h] = position_of_row[row]; });
#pragma unroll
  for (int n = 0; n < kStep / 8; ++n)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int seen = visible[min(n * 8 + j + first_column(), last)];
      for_rows([&](int m, int h, int) {
        if (position[m][h] >= seen) scores[m][n][2 * h + j] = -INFINITY;
      });
    }
}

// The same for queries whose window begins behind a key: hidden[0] is of the step's first query.
GPU_DEVICE void hide_later_queries(Fragments<kStep>& scores, const int32_t* position_of_row,
                                   const int32_t* hidden, int last) {
  int position[kFragments][2];
  for_rows([&](int m, int h, int row) { position[m][h] = position_of_row[row]; });
#pragma unroll
  for (int n = 0; n < kStep / 8; ++n)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int first_seen = hidden[min(n * 8 + j + first_column(), last)];
      for_rows([&](int m, int h, int) {
        if (position[m][h] < first_seen) scores[m][n][2 * h + j] = -INFINITY;
      });
    }
}

// Calls body(n, j, value) for the two values of the thread's columns of every column tile n.
template <typename Body>
GPU_DEVICE void for_columns(const float* values, const Body& body) {
#pragma unroll
  for (int n = 0; n < kStep / 8; ++n)
#pragma unroll
    for (int j = 0; j < 2; ++j) body(n, j, values[n * 8 + first_column() + j]);
}

// What a team streams: q and lse, or dout and delta. It lies in shared memory: a choice between the
// kernel's parameters would take registers through the loops.
template <typename T>
struct Streamed {
  Rows<const T> rows_NqD;
  const float* statistics_SHN;
};

template <Windows kWindows, int kWidth, typename T>
GPU_DEVICE void dkv_block(const Rows<T>& dk_NkD, const Rows<T>& dv_NkD, const AttentionInputs<T>& x,
                          const AttentionSaved<T>& saved, const AttentionLists& lists,
                          const AttentionShape& shape) {
  GPU_SHARED(BlockPlace, place, );
  GPU_SHARED(Streamed<T>, streamed, [kTeams]);
  if (threadIdx.x == 0) {
    streamed[0] = {x.q_NqD, saved.lse_SHN};
    streamed[1] = {saved.dout_NqD, saved.delta_SHN};
  }
  find_place(place, lists, lists.key_tiles, shape.kv_heads);  // ends with a barrier
  const AttentionTile& tile = place.tile;
  const int kv_head = head_of_block(shape.kv_heads);
  const int64_t kv_at = int64_t{kv_head} * kWidth;
  const bool is_first_team = team_of_thread() == 0;
  gpu::SharedArrays arrays;
  const DkvTiles<kWidth, T> tiles(arrays);
  fetch_tile<kWidth>(
      is_first_team ? tiles.k : tiles.v,
      HeadRows<T>(is_first_team ? x.k_NkD : x.v_NkD, kv_at, tile.row_begin, tile.num_rows));
  const T* own_rows = (is_first_team ? tiles.k : tiles.v) + row_of_warp() * kStride<kWidth>;
  const WeightExchange exchange(tiles.weights);

  Fragments<kWidth> sums;  // dv of the first team, dk of the second
  clear(sums);
  int stage = 0;
  for (int h = 0; h < shape.group(); ++h) {
    const int head = kv_head * shape.group() + h;
    for (int r = 0; r < tile.num_ranges; ++r) {
      const AttentionRange range = range_of(lists, tile, r);
      const int least = WarpBounds(bounds_of(lists, range)).least(), own = thread_of_team();
      const float* statistics = streamed[team_of_thread()].statistics_SHN +
                                shape.statistic(range.slot, head, range.begin);
      const HeadRows<T> queries(streamed[team_of_thread()].rows_NqD, int64_t{head} * kWidth,
                                range.begin, range.count);
      const auto fetch = [&](int to, int first) {
        queries.template fetch<kWidth, kStep>(is_first_team ? tiles.q(to) : tiles.dout(to), first);
        gpu::cp_async_commit();
      };
      const auto statistic_of = [&](int i) {
        const bool present = i < range.count;
        if (is_first_team) return present ? statistics[i] * kLog2OfE : INFINITY;
        return present ? statistics[i] : 0.0f;
      };
      const auto store_statistic = [&](int to, float value) {
        if (own < kStep) (is_first_team ? tiles.lse(to) : tiles.delta(to))[own] = value;
      };
      fetch(stage, 0);
      store_statistic(stage, statistic_of(own));

      const auto step = [&](auto is_boundary, int first) {
        constexpr bool kBoundary = decltype(is_boundary)::value;
        gpu::cp_async_wait<0>();
        __syncthreads();  // the stage is there, the other one and P have been read
        float next_statistic = 0;
        if (first + kStep < range.count) {
          fetch(stage ^ 1, first + kStep);
          next_statistic = statistic_of(first + kStep + own);
        }
        const int last = min(kStep, range.count - first) - 1;
        const int32_t* visible = visible_of(lists, range) + first;
        const bool is_active = !kBoundary || least < visible[last];
        Fragments<kStep> weights;  // P of the first team, dS of the second
        if (is_active) {
          clear(weights);
          if (!kBoundary || !is_first_team || !range_of(lists, tile, r).is_mean)
            add_products<kWidth, kStep>(weights, own_rows,
                                        is_first_team ? tiles.q(stage) : tiles.dout(stage));
          if (is_first_team) {
            if (kBoundary)
              hide_earlier_queries(weights, bounds_of(lists, range_of(lists, tile, r)), visible,
                                   last);
            if (kBoundary && may_hide(kWindows, lists, tile, r))
              hide_later_queries(weights, bounds_of(lists, range_of(lists, tile, r)),
                                 hidden_of(lists, range_of(lists, tile, r)) + first, last);
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
        store_statistic(stage ^ 1, next_statistic);
        __syncthreads();  // P is there
        if (is_active) {
          if (!is_first_team) exchange.multiply(weights);
          add_weighted<kWidth, kStep>(sums, weights,
                                      is_first_team ? tiles.dout(stage) : tiles.q(stage));
        }
        stage ^= 1;
      };
      int first = 0;
      for (; first < range.count - range.full; first += kStep) step(std::true_type(), first);
      for (; first < range.count; first += kStep) step(std::false_type(), first);
    }
  }
  gpu::cp_async_wait<0>();  // if the tile has no ranges
  for_rows([&](int m, int h, int i) {
    if (i >= tile.num_rows) return;
    const int64_t row = tile.row_begin + i;
    if (!is_first_team)
      multiply_row(sums[m], h, shape.scale);
    else if (const int query = self_query(lists, row); query >= 0)
      for (int head = place.head * shape.group(); head < (place.head + 1) * shape.group(); ++head)
        add_row<T>(sums[m], h, saved.dout_NqD.row(query) + int64_t{head} * kWidth);
    store_row((is_first_team ? dv_NkD.row(row) : dk_NkD.row(row)) + int64_t{place.head} * kWidth,
              sums[m], h);
  });
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kBackwardThreads, 1)
    dkv_kernel(Rows<T> dk_NkD, Rows<T> dv_NkD, AttentionInputs<T> x, AttentionSaved<T> saved,
               AttentionLists lists, AttentionShape shape) {
  dkv_block<Windows::kAbsent, kWidth>(dk_NkD, dv_NkD, x, saved, lists, shape);
}
template <int kWidth, typename T>
__global__ void __launch_bounds__(kBackwardThreads, 1)
    dkv_window_kernel(Rows<T> dk_NkD, Rows<T> dv_NkD, AttentionInputs<T> x, AttentionSaved<T> saved,
                      AttentionLists lists, AttentionShape shape) {
  dkv_block<Windows::kPresent, kWidth>(dk_NkD, dv_NkD, x, saved, lists, shape);
}

}  // namespace facet::cuda::mma
