// Attention in decoding on tensor cores, in bf16 and fp16 with fp32 sums (attention_decode.cu).
//
// The bytes of the cache bound the time, and nothing is read twice: fragments of keys and values
// come from device memory by 16-byte loads, without shared memory between, as the sum of a product
// may run over the columns in any order, and its results may be of any columns. A step of 16 keys
// and values of 128 columns (8 KiB) is 395 instructions of a warp on sm_90, of which 32 are
// products, for 16 rows as for one; a multiprocessor of an H100 issues 2200 in the time in which
// they arrive, at 15 bytes a cycle. So a single row has no other kernel.
#pragma once

#include "kernels/cuda/attention_decode.h"
#include "kernels/cuda/attention_forward_mma.h"

namespace facet::cuda::decode {

constexpr int kMmaRows = 16;   // of a block: the rows of a fragment
constexpr int kStepKeys = 16;  // of a warp
constexpr int kMmaBlocks = 2;  // on a multiprocessor, at least: bounds the registers of a thread

// A pack of 16-bit elements as the registers of fragments: pairs of neighbours.
struct Pairs {
  uint32_t v[4];
};
template <typename T>
GPU_DEVICE Pairs load_pairs(const T* from) {
  const auto pack = gpu::load_pack(from);
  Pairs pairs;
  memcpy(pairs.v, static_cast<const void*>(&pack), sizeof pairs);
  return pairs;
}

// The softmax of the block's rows over a warp's keys. With lane = 4 g + t, the lane's rows are g
// and g + 8.
template <int kWidth, typename T>
class WarpSoftmax {
 public:
  GPU_DEVICE WarpSoftmax(const AttentionInputs<T>& x, const DecodeLists& lists,
                         const AttentionShape& shape, const BlockRows<kMmaRows>& rows)
      : shape_(shape), is_mean_(rows.part.is_mean), kv_at_(int64_t{rows.kv_head} * shape.width) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int r = row(h);
      max_[h] = -INFINITY;
      sum_[h] = 0;
      seen_[h] = rows.seen(lists, r);
      mma::clear_row(out_, h);
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        Pairs q{};
        if (r < rows.count && key_column(c) < shape.width)
          q = load_pairs(rows.q_E(x, shape, r) + key_column(c));
#pragma unroll
        for (int i = 0; i < 4; ++i) q_[2 * c + i / 2][h + 2 * (i % 2)] = q.v[i];
      }
    }
  }

  // Adds keys key, key + 1, ..., which lie in these rows.
  GPU_DEVICE void add(const AttentionInputs<T>& x, const int* row_of_key, int key) {
    Pairs k[2][kChunks], v[kValueChunks][4];
    load_keys(k, x, row_of_key);
    load_values(v, x, row_of_key);
    float scores[2][4] = {};
    if (!is_mean_) multiply_keys(scores, k);
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (!seen_[i / 2].sees(key + 8 * n + mma::first_column() + i % 2)) scores[n][i] = -INFINITY;
#pragma unroll
    for (int h = 0; h < 2; ++h)
      mma::multiply_row(out_, h,
                        mma::softmax_of_row<true>(max_[h], sum_[h], scores, h, shape_.factor));
    add_values(scores, v);
  }

  GPU_DEVICE void store(WarpSums<kWidth, kMmaRows>& sums) const {
    const int warp = static_cast<int>(threadIdx.x) / gpu::kWarpSize;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int n = 0; n < kWidth / 8; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i)
          sums.out[warp][row(h)][n / 8 * 64 + (mma::first_column() + i) * 8 + n % 8] =
              out_[n][2 * h + i];
      const float sum = mma::sum_of_row(sum_[h]);
      if (mma::first_column() > 0) continue;
      sums.max[warp][row(h)] = max_[h];
      sums.sum[warp][row(h)] = sum;
    }
  }

 private:
  // Of q and k: 32 columns, of which the lane's 8 are its pairs of two products.
  static constexpr int kChunks = kWidth / 32;
  // Of v: 64 columns, of which the lane's 8 are columns g of eight products.
  static constexpr int kValueChunks = kWidth / 64;

  GPU_DEVICE static int row(int h) { return mma::lane_of_thread() / 4 + 8 * h; }
  GPU_DEVICE static int key_column(int c) { return c * 32 + mma::lane_of_thread() % 4 * 8; }
  GPU_DEVICE static int value_column(int c) { return c * 64 + mma::lane_of_thread() / 4 * 8; }
  // Lanes behind a head's last column read its first ones: of keys q, 0, gives them no weight, and
  // of values nothing is made of their sums.
  GPU_DEVICE int64_t within(int column) const {
    return kv_at_ + (column < shape_.width ? column : 0);
  }

  GPU_DEVICE void load_keys(Pairs (&k)[2][kChunks], const AttentionInputs<T>& x,
                            const int* row_of_key) const {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const T* from = x.k_NkD.row(row_of_key[row(n)]);
#pragma unroll
      for (int c = 0; c < kChunks; ++c) k[n][c] = load_pairs(from + within(key_column(c)));
    }
  }
  GPU_DEVICE void load_values(Pairs (&v)[kValueChunks][4], const AttentionInputs<T>& x,
                              const int* row_of_key) const {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const T* from = x.v_NkD.row(row_of_key[mma::first_column() + j % 2 + j / 2 * 8]);
#pragma unroll
      for (int c = 0; c < kValueChunks; ++c) v[c][j] = load_pairs(from + within(value_column(c)));
    }
  }
  GPU_DEVICE void multiply_keys(float (&scores)[2][4], const Pairs (&k)[2][kChunks]) const {
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int s = 0; s < 2 * kChunks; ++s) {
        const uint32_t* pairs = k[n][s / 2].v + s % 2 * 2;
        const uint32_t b[2] = {pairs[0], pairs[1]};
        gpu::mma_m16n8k16<T>(scores[n], q_[s], b, scores[n]);
      }
  }
  GPU_DEVICE void add_values(const float (&weights)[2][4], const Pairs (&v)[kValueChunks][4]) {
    uint32_t a[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      a[i] = gpu::pair_of<T>(weights[i / 2][i % 2 * 2], weights[i / 2][i % 2 * 2 + 1]);
#pragma unroll
    for (int c = 0; c < kValueChunks; ++c)
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        const uint32_t b[2] = {column_of(v[c][0], v[c][1], n), column_of(v[c][2], v[c][3], n)};
        gpu::mma_m16n8k16<T>(out_[c * 8 + n], a, b, out_[c * 8 + n]);
      }
  }
  // Element n of the packs of two keys.
  GPU_DEVICE static uint32_t column_of(const Pairs& first, const Pairs& second, int n) {
    const uint32_t low = first.v[n / 2], high = second.v[n / 2];
    return n % 2 == 0 ? (low & 0xffffu) | (high << 16) : (low >> 16) | (high & 0xffff0000u);
  }

  const AttentionShape& shape_;
  const bool is_mean_;
  const int64_t kv_at_;
  uint32_t q_[kWidth / 16][4];
  float out_[kWidth / 8][4];
  float max_[2], sum_[2];  // the sum is the lane's own
  BlockRows<kMmaRows>::Seen seen_[2];
};

template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads, kMmaBlocks)
    mma_kernel(Partials y, AttentionInputs<T> x, DecodeLists lists, AttentionShape shape) {
  using Sums = WarpSums<kWidth, kMmaRows>;
  GPU_SHARED(Sums, sums, );
  const BlockRows<kMmaRows> rows(lists, shape);
  if (rows.count <= 0) return;
  WarpSoftmax<kWidth, T> softmax(x, lists, shape, rows);
  const int first_of_warp = static_cast<int>(threadIdx.x) / gpu::kWarpSize * kStepKeys;
  for_pieces(lists, rows.stretch, [&](int first, const int* row_of_key) {
    for (int i = first_of_warp; i < kPiece && first + i < rows.stretch.end; i += kWarps * kStepKeys)
      softmax.add(x, row_of_key + i, first + i);
  });
  softmax.store(sums);
  __syncthreads();
  store_partials(y, sums, rows, shape.factor);
}

template <int kWidth, typename T>
void run(const Partials& partials, const AttentionInputs<T>& x, const DecodeLists& lists,
         const AttentionShape& shape, cudaStream_t stream) {
  gpu::launch(stream, {.grid = grid_of(lists, shape, kMmaRows), .block = kThreads},
              mma_kernel<kWidth, T>, partials, x, lists, shape);
}

}  // namespace facet::cuda::decode
