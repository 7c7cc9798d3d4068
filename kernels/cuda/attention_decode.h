// Shared by the kernels of attention in decoding (attention_decode.cu): the work list on the
// device, a block's rows and keys, and the partial results that it writes.
#pragma once

#include "kernels/cuda/attention_lists.h"
#include "kernels/cuda/decode_work.h"

namespace facet::cuda::decode {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / gpu::kWarpSize;
constexpr int kMostWidth = 128;   // of a head
constexpr int kPiece = kThreads;  // keys whose rows are looked up at a time

template <typename Item>
GPU_DEVICE const Item* section(const DecodeLists& lists, int32_t offset) {
  return reinterpret_cast<const Item*>(lists.data + offset);
}
GPU_DEVICE DecodePart part_of(const DecodeLists& lists, int part) {
  return section<DecodePart>(lists, lists.parts)[part];
}

// Partial results, each of all heads: a row's sum of values, then its largest q.k and the sum of
// the weights 2^(factor (q.k - that)).
struct Partials {
  float* data;
  int heads, width;

  GPU_DEVICE float* out_E(int64_t partial, int head) const {
    return data + (partial * heads + head) * (width + 2);
  }
  GPU_DEVICE float& max(int64_t partial, int head) const { return out_E(partial, head)[width]; }
  GPU_DEVICE float& sum(int64_t partial, int head) const { return out_E(partial, head)[width + 1]; }
};

// What exponents are taken relative to; for a row that has seen no key any finite number will do.
GPU_DEVICE float base_of(float max, float factor) { return max == -INFINITY ? 0.0f : max * factor; }

// The work of a block: up to kRows of the rows of a stretch, which are the queries of its part
// times the heads that share a head of keys.
template <int kRows>
class BlockRows {
 public:
  DecodeStretch stretch;
  DecodePart part;
  int kv_head, count;  // of rows; at most 0: the block has none

  GPU_DEVICE BlockRows(const DecodeLists& lists, const AttentionShape& shape)
      : stretch(section<DecodeStretch>(lists, lists.stretches)[blockIdx.x]),
        part(part_of(lists, stretch.part)),
        kv_head(static_cast<int>(blockIdx.y)),
        group_(shape.group()),
        first_(static_cast<int>(blockIdx.z) * kRows) {
    count = min(kRows, part.num_queries * group_ - first_);
  }
  GPU_DEVICE int query(int r) const { return (first_ + r) / group_; }
  GPU_DEVICE int head(int r) const { return kv_head * group_ + (first_ + r) % group_; }
  // The keys that row r sees: from `hidden` up to `visible`, in the part's list.
  struct Seen {
    int hidden = 0, visible = 0;

    GPU_DEVICE bool sees(int key) const { return key >= hidden && key < visible; }
  };
  GPU_DEVICE Seen seen(const DecodeLists& lists, int r) const {
    if (r >= count) return {};
    const int at = part.visible_begin + query(r);
    return {lists.has_windows ? section<int32_t>(lists, lists.hidden_keys)[at] : 0,
            min(section<int32_t>(lists, lists.visible_keys)[at], stretch.end)};
  }
  template <typename T>
  GPU_DEVICE const T* q_E(const AttentionInputs<T>& x, const AttentionShape& shape, int r) const {
    return x.q_NqD.row(part.first_query + query(r)) + int64_t{head(r)} * shape.width;
  }

 private:
  int group_, first_;
};

// Finds the rows of k and v of increasing keys of a part.
class KeyRows {
 public:
  GPU_DEVICE KeyRows(const DecodeLists& lists, const DecodeStretch& stretch)
      : range_(section<RowRange>(lists, lists.key_ranges) + stretch.range),
        before_(stretch.before) {}

  GPU_DEVICE int row_of(int key) {
    for (; key - before_ >= range_->count; ++range_) before_ += range_->count;
    return range_->first + key - before_;
  }

 private:
  const RowRange* range_;
  int before_;  // of the part's keys in earlier ranges
};

// Calls body(first key, row of each) for the stretch's keys, kPiece at a time. Behind the last key
// the last one's row stands again.
template <typename Body>
GPU_DEVICE void for_pieces(const DecodeLists& lists, const DecodeStretch& stretch,
                           const Body& body) {
  GPU_SHARED(int, row_of_key, [kPiece]);
  KeyRows rows(lists, stretch);
  for (int first = stretch.first; first < stretch.end; first += kPiece) {
    __syncthreads();  // the rows of the piece before have been read
    row_of_key[threadIdx.x] =
        rows.row_of(min(first + static_cast<int>(threadIdx.x), stretch.end - 1));
    __syncthreads();
    body(first, row_of_key);
  }
}

// What the warps of a block have of each row.
template <int kWidth, int kRows>
struct WarpSums {
  float out[kWarps][kRows][kWidth], max[kWarps][kRows], sum[kWarps][kRows];
};

// Adds up the warps' in their order and stores the partial results.
template <int kWidth, int kRows>
GPU_DEVICE void store_partials(const Partials& y, const WarpSums<kWidth, kRows>& sums,
                               const BlockRows<kRows>& rows, float factor) {
  for (int i = static_cast<int>(threadIdx.x); i < rows.count * y.width; i += kThreads) {
    const int r = i / y.width, c = i % y.width, head = rows.head(r);
    const int partial = rows.stretch.partial + rows.query(r);
    float max = sums.max[0][r];
    for (int w = 1; w < kWarps; ++w) max = fmaxf(max, sums.max[w][r]);
    float out = 0, sum = 0;
    for (int w = 0; w < kWarps; ++w) {
      const float weight = gpu::fast_exp2(sums.max[w][r] * factor - base_of(max, factor));
      out += weight * sums.out[w][r][c];
      sum += weight * sums.sum[w][r];
    }
    y.out_E(partial, head)[c] = out;
    if (c > 0) continue;
    y.max(partial, head) = max;
    y.sum(partial, head) = sum;
  }
}

// One block for every stretch, head of keys and kRows rows.
inline dim3 grid_of(const DecodeLists& lists, const AttentionShape& shape, int rows_of_block) {
  const int rows = lists.most_queries * (shape.heads / shape.kv_heads);
  return {static_cast<unsigned>(lists.num_stretches), static_cast<unsigned>(shape.kv_heads),
          static_cast<unsigned>((rows + rows_of_block - 1) / rows_of_block)};
}

}  // namespace facet::cuda::decode
