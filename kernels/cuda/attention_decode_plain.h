// Attention in decoding in fp32, without tensor cores (attention_decode.cu).
//
// The bytes of the cache bound the time. On an H100 a multiprocessor gets 15 of them a cycle, so
// two keys and values of 128 columns (2 KiB) in 137 cycles, in which it issues 546 instructions of
// a warp. On sm_90 they take 103 with one row and 540 with 8, which is as many as a block has.
#pragma once

#include "kernels/cuda/attention_decode.h"

namespace facet::cuda::decode {

constexpr int kMostPlainRows = 8;  // of a block
// Keys of a team whose loads are under way together. The same for any number of rows: it decides
// the order of rounding.
constexpr int kAtOnce = 2;
// On a multiprocessor, at least: bounds the registers of a thread.
template <int kRows>
constexpr int kPlainBlocks = kRows == 1                ? 6
                             : kRows == kMostPlainRows ? 2
                                                       : 3;

// A team of lanes takes a key at a time, each lane a pack of its head: 16-byte loads that follow
// one another. A team has a softmax of its own for every row, over its keys.
template <int kWidth, int kRows>
class TeamSoftmax {
 public:
  static constexpr int kPack = kPackOf<float>;
  static constexpr int kLanes = kWidth / kPack;
  static constexpr int kTeams = kThreads / kLanes;
  static_assert(kLanes <= gpu::kWarpSize && kPiece % (kAtOnce * kTeams) == 0);
  using Packs = float[kAtOnce][kPack];

  GPU_DEVICE TeamSoftmax(const AttentionInputs<float>& x, const DecodeLists& lists,
                         const AttentionShape& shape, const BlockRows<kRows>& rows)
      : factor_(shape.factor), is_mean_(rows.part.is_mean) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      max_[r] = -INFINITY;
      sum_[r] = 0;
      seen_[r] = rows.seen(lists, r);
#pragma unroll
      for (int c = 0; c < kPack; ++c) q_[r][c] = out_[r][c] = 0;
      if (r < rows.count && column() < shape.width)
        load_floats(q_[r], rows.q_E(x, shape, r), column(), shape.width, RowAccess::kPacked);
    }
  }
  GPU_DEVICE static int team() { return static_cast<int>(threadIdx.x) / kLanes; }
  // The lane's first column of a head.
  GPU_DEVICE static int column() { return static_cast<int>(threadIdx.x) % kLanes * kPack; }

  // Adds keys key, key + kTeams, ... whose packs these are.
  GPU_DEVICE void add(const Packs& k, const Packs& v, int key) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float score[kAtOnce], max = max_[r];
#pragma unroll
      for (int n = 0; n < kAtOnce; ++n) {
        const float product = sum_of_team(dot(q_[r], k[n]));
        score[n] = !seen_[r].sees(key + n * kTeams) ? -INFINITY : is_mean_ ? 0.0f : product;
        max = fmaxf(max, score[n]);
      }
      const float base = base_of(max, factor_);
      scale(r, gpu::fast_exp2(max_[r] * factor_ - base));
      max_[r] = max;
#pragma unroll
      for (int n = 0; n < kAtOnce; ++n) {
        const float weight = gpu::fast_exp2(score[n] * factor_ - base);
        sum_[r] += weight;
#pragma unroll
        for (int c = 0; c < kPack; ++c) out_[r][c] += weight * v[n][c];
      }
    }
  }

  // Brings the teams of each warp together.
  GPU_DEVICE void store(WarpSums<kWidth, kRows>& sums) {
    const int warp = static_cast<int>(threadIdx.x) / gpu::kWarpSize;
    const int lane = static_cast<int>(threadIdx.x) % gpu::kWarpSize;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      join_teams(r);
      if (lane >= kLanes) continue;
#pragma unroll
      for (int c = 0; c < kPack; ++c) sums.out[warp][r][column() + c] = out_[r][c];
      if (lane > 0) continue;
      sums.max[warp][r] = max_[r];
      sums.sum[warp][r] = sum_[r];
    }
  }

 private:
  GPU_DEVICE static float other(float value, int lanes) {
    return __shfl_xor_sync(gpu::kFullWarp, value, lanes);
  }
  GPU_DEVICE static float sum_of_team(float value) {
#pragma unroll
    for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) value += other(value, lanes);
    return value;
  }
  GPU_DEVICE static float dot(const float (&a)[kPack], const float (&b)[kPack]) {
    float sum = 0;
#pragma unroll
    for (int c = 0; c < kPack; ++c) sum += a[c] * b[c];
    return sum;
  }
  GPU_DEVICE void scale(int r, float by) {
    sum_[r] *= by;
#pragma unroll
    for (int c = 0; c < kPack; ++c) out_[r][c] *= by;
  }
  GPU_DEVICE void join_teams(int r) {
    float max = max_[r];
#pragma unroll
    for (int lanes = kLanes; lanes < gpu::kWarpSize; lanes *= 2)
      max = fmaxf(max, other(max, lanes));
    scale(r, gpu::fast_exp2(max_[r] * factor_ - base_of(max, factor_)));
    max_[r] = max;
#pragma unroll
    for (int lanes = kLanes; lanes < gpu::kWarpSize; lanes *= 2) {
      sum_[r] += other(sum_[r], lanes);
#pragma unroll
      for (int c = 0; c < kPack; ++c) out_[r][c] += other(out_[r][c], lanes);
    }
  }

  const float factor_;
  const bool is_mean_;
  float q_[kRows][kPack], out_[kRows][kPack];
  float max_[kRows], sum_[kRows];
  typename BlockRows<kRows>::Seen seen_[kRows];
};

template <int kWidth, int kRows>
__global__ void __launch_bounds__(kThreads, kPlainBlocks<kRows>)
    plain_kernel(Partials y, AttentionInputs<float> x, DecodeLists lists, AttentionShape shape) {
  using Softmax = TeamSoftmax<kWidth, kRows>;
  using Sums = WarpSums<kWidth, kRows>;
  GPU_SHARED(Sums, sums, );
  const BlockRows<kRows> rows(lists, shape);
  if (rows.count <= 0) return;
  Softmax softmax(x, lists, shape, rows);
  // Lanes behind a head's last column read its first ones, to which their q, 0, gives no weight.
  const int64_t at = int64_t{rows.kv_head} * shape.width +
                     (Softmax::column() < shape.width ? Softmax::column() : 0);
  for_pieces(lists, rows.stretch, [&](int first, const int* row_of_key) {
    for (int i = 0; i < kPiece && first + i < rows.stretch.end; i += kAtOnce * Softmax::kTeams) {
      typename Softmax::Packs k, v;
#pragma unroll
      for (int n = 0; n < kAtOnce; ++n) {
        const int row = row_of_key[i + n * Softmax::kTeams + Softmax::team()];
        load_floats(k[n], x.k_NkD.row(row) + at, 0, Softmax::kPack, RowAccess::kPacked);
        load_floats(v[n], x.v_NkD.row(row) + at, 0, Softmax::kPack, RowAccess::kPacked);
      }
      softmax.add(k, v, first + i + Softmax::team());
    }
  });
  softmax.store(sums);
  __syncthreads();
  store_partials(y, sums, rows, shape.factor);
}

template <int kWidth>
void run(const Partials& partials, const AttentionInputs<float>& x, const DecodeLists& lists,
         const AttentionShape& shape, cudaStream_t stream) {
  const auto launch = [&](auto rows, auto kernel) {
    gpu::launch(stream, {.grid = grid_of(lists, shape, rows), .block = kThreads}, kernel, partials,
                x, lists, shape);
  };
  const int rows = lists.most_queries * (shape.heads / shape.kv_heads);
  if (rows == 1)
    launch(1, plain_kernel<kWidth, 1>);
  else if (rows <= 4)
    launch(4, plain_kernel<kWidth, 4>);
  else
    launch(kMostPlainRows, plain_kernel<kWidth, kMostPlainRows>);
}

}  // namespace facet::cuda::decode
