// Forward attention on tensor cores, in bf16 and fp16 with fp32 sums (formulas in
// attention_forward.cu): one block of one team per tile of query rows and query head, streaming
// keys and values. Overwrites out, out_part (Nq,H*E) and lse (slots,H,Nq).
//
// One sum is live at a time. Ranges of image keys come first; what they give to a row waits in
// device memory, rounded in out_part and the rest of it in out, until the row's text part is
// added. Then out_part keeps the smaller of the two.
#pragma once

#include "kernels/cuda/attention_mma.h"

namespace facet::cuda::mma {

constexpr int kForwardBlocks = 2;  // an sm_80 multiprocessor, which bounds the registers a thread

// The running softmax of the thread's four rows: the largest q.k, the same in the four lanes of a
// row, and the lane's own sum of weights.
struct RunningSoftmax {
  float max[kFragments][2], sum[kFragments][2];

  GPU_DEVICE RunningSoftmax() {
    for_rows([&](int m, int h, int) {
      max[m][h] = -INFINITY;
      sum[m][h] = 0;
    });
  }
};

GPU_DEVICE float max_of_row(float x) {
  x = fmaxf(x, __shfl_xor_sync(gpu::kFullWarp, x, 1));
  return fmaxf(x, __shfl_xor_sync(gpu::kFullWarp, x, 2));
}
GPU_DEVICE float sum_of_row(float x) {
  x += __shfl_xor_sync(gpu::kFullWarp, x, 1);
  return x + __shfl_xor_sync(gpu::kFullWarp, x, 2);
}

// Turns the products q.k of half h of a C into weights 2^(factor (q.k - max)) and adds them to the
// lane's sum. Returns what rescales the row's earlier sums to the new maximum. kBoundary: the row
// may see no key yet, and hidden products are -inf.
template <bool kBoundary, int kTiles>
GPU_DEVICE float softmax_of_row(float& running_max, float& running_sum, float (&scores)[kTiles][4],
                                int h, float factor) {
  float max = running_max;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) max = fmaxf(max, fmaxf(scores[n][2 * h], scores[n][2 * h + 1]));
  max = max_of_row(max);
  // For a row without visible keys so far any finite number will do.
  const float base = kBoundary && max == -INFINITY ? 0.0f : max * factor;
  const float rescale = gpu::fast_exp2(running_max * factor - base);
  float sum = running_sum * rescale;
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int i = 2 * h; i < 2 * h + 2; ++i)
      sum += scores[n][i] = gpu::fast_exp2(scores[n][i] * factor - base);
  running_sum = sum;
  running_max = max;
  return rescale;
}

// The same for the thread's rows, and rescales their earlier sums.
template <bool kBoundary, int kWidth>
GPU_DEVICE void softmax_step(RunningSoftmax& softmax, Fragments<kStep>& scores,
                             Fragments<kWidth>& sums, float factor) {
  for_rows([&](int m, int h, int) {
    multiply_row(
        sums[m], h,
        softmax_of_row<kBoundary>(softmax.max[m][h], softmax.sum[m][h], scores[m], h, factor));
  });
}

template <int kWidth, typename T>
class ForwardTiles {
 public:
  GPU_DEVICE explicit ForwardTiles(gpu::SharedArrays& arrays)
      : q(arrays.take<T>(kTileRows * kStride<kWidth>)),
        k(arrays.take<T>(kStep * kStride<kWidth>)),
        v(arrays.take<T>(kStep * kStride<kWidth>)) {}
  static constexpr size_t bytes() { return (kTileRows + 2 * kStep) * kStride<kWidth> * sizeof(T); }
  T *q, *k, *v;
};

// The squared norms of a tile's image parts until its text parts come, one copy for each of the
// four lanes of a row.
using ImageSizes = float[kTileRows][4];

// Where the results of a block go.
template <int kWidth, typename T>
class ForwardRows {
 public:
  GPU_DEVICE ForwardRows(const AttentionOutputs<T>& y, const AttentionInputs<T>& x,
                         const AttentionLists& lists, const AttentionShape& shape,
                         const BlockPlace& place, ImageSizes& image_sizes)
      : y_(y), x_(x), lists_(lists), shape_(shape), place_(place), image_sizes_(image_sizes) {}

  // Ends the softmax that begins with range r: normalises the sums of the rows in it and stores
  // them with their lse.
  GPU_DEVICE void end_range(Fragments<kWidth>& sums, const RunningSoftmax& softmax,
                            const WarpBounds& bounds, int r) const {
    const AttentionRange range = range_of(lists_, place_.tile, r);
    for_rows([&](int m, int h, int i) {
      end_part(sums[m], h, i, range.slot, bounds.of(m, h) != 0, softmax.max[m][h],
               softmax.sum[m][h]);
    });
  }
  // The same for row i of the tile, half h of a C, by all lanes of a warp: `is_in`: whether the row
  // is in the range; `max`: its largest q.k; `sum`: that of the lane's weights.
  GPU_DEVICE void end_part(float (&part)[kWidth / 8][4], int h, int i, int slot, bool is_in,
                           float max, float sum) const {
    // Lanes without the row take part: a branch around shuffles costs ptxas registers in the loops.
    sum = sum_of_row(sum);
    const float size = sum_of_row(squares(part, h)) / (sum * sum);
    if (!is_in) return;
    store_statistic(slot, i, max * shape_.scale + logf(sum));
    multiply_row(part, h, 1 / sum);
    if (slot == 1)
      store_image_part(part, h, i, size);
    else
      store(part, h, i, true, size);
  }
  // The rows without a text part.
  GPU_DEVICE void end_rows(Fragments<kWidth>& sums) const {
    for_rows([&](int m, int h, int i) { end_row(sums[m], h, i); });
  }
  GPU_DEVICE void end_row(float (&part)[kWidth / 8][4], int h, int i) const {
    if (i >= place_.tile.num_rows || has_part(0, i)) return;
    clear_row(part, h);
    store(part, h, i, false, 0);
  }

 private:
  // Whether row i of the tile has a part of that slot.
  GPU_DEVICE bool has_part(int slot, int i) const {
    for (int r = 0; r < place_.tile.num_ranges; ++r) {
      const AttentionRange range = range_of(lists_, place_.tile, r);
      if (range.slot == slot && bounds_of(lists_, range)[i] != 0) return true;
    }
    return false;
  }
  GPU_DEVICE T* out(int64_t row) const {
    return y_.out_NqD.row(row) + int64_t{place_.head} * kWidth;
  }
  GPU_DEVICE T* out_part(int64_t row) const {
    return y_.out_part_NqD.row(row) + int64_t{place_.head} * kWidth;
  }
  // The lane's share of the squared norm.
  GPU_DEVICE static float squares(const float (&part)[kWidth / 8][4], int h) {
    float sum = 0;
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n)
#pragma unroll
      for (int i = 2 * h; i < 2 * h + 2; ++i) sum += part[n][i] * part[n][i];
    return sum;
  }
  GPU_DEVICE float& image_size(int i) const { return image_sizes_[i][lane_of_thread() % 4]; }

  GPU_DEVICE void store_image_part(float (&part)[kWidth / 8][4], int h, int i, float size) const {
    const int64_t row = place_.tile.row_begin + i;
    image_size(i) = size;
    store_row(out_part(row), part, h);
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n)
#pragma unroll
      for (int j = 2 * h; j < 2 * h + 2; ++j)
        part[n][j] -= gpu::to_float(gpu::from_float<T>(part[n][j]));
    store_row(out(row), part, h);
  }
  // out = the part + the image part + the row's own v. The thread reads what it wrote itself.
  // `size`: the part's squared norm; without a text part the part is 0.
  GPU_DEVICE void store(float (&part)[kWidth / 8][4], int h, int i, bool has_text,
                        float size) const {
    const int64_t row = place_.tile.row_begin + i;
    if (has_part(1, i)) {
      const bool keep_text = has_text && size <= image_size(i);
      add_image_part(part, h, row, keep_text);
      store_statistic(kSlotOfPart, i, keep_text ? 0 : 1);
    } else if (lists_.num_slots == 2) {
      store_row(out_part(row), part, h);
      store_statistic(kSlotOfPart, i, has_text ? 0 : -1);
    }
    const int self = self_row(lists_, row);
    if (self >= 0)
      add_row<T>(part, h, x_.v_NkD.row(self) + int64_t{shape_.kv_head(place_.head)} * kWidth);
    store_row(out(row), part, h);
  }
  // part += the image part; with keep_text out_part becomes what the part was.
  GPU_DEVICE void add_image_part(float (&part)[kWidth / 8][4], int h, int64_t row,
                                 bool keep_text) const {
    T* image = out_part(row) + first_column();
    const T* rest = out(row) + first_column();
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
      const uint32_t text = gpu::pair_of<T>(part[n][2 * h], part[n][2 * h + 1]);
      const TwoFloats high = floats_of<T>(gpu::load_pair(image + n * 8));
      const TwoFloats low = floats_of<T>(gpu::load_pair(rest + n * 8));
#pragma unroll
      for (int i = 0; i < 2; ++i) part[n][2 * h + i] = part[n][2 * h + i] + high.v[i] + low.v[i];
      if (keep_text) gpu::store_pair(image + n * 8, text);
    }
  }
  GPU_DEVICE void store_statistic(int slot, int i, float value) const {
    if (lane_of_thread() % 4 == 0)
      y_.lse_SHN[shape_.statistic(slot, place_.head, place_.tile.row_begin + i)] = value;
  }

  const AttentionOutputs<T>& y_;
  const AttentionInputs<T>& x_;
  const AttentionLists& lists_;
  const AttentionShape& shape_;
  const BlockPlace& place_;
  ImageSizes& image_sizes_;
};

template <Windows kWindows, int kWidth, typename T>
GPU_DEVICE void forward_block(const AttentionOutputs<T>& y, const AttentionInputs<T>& x,
                              const AttentionLists& lists, const AttentionShape& shape) {
  GPU_SHARED(BlockPlace, place, );
  GPU_SHARED(ImageSizes, image_sizes, );
  find_place(place, lists, lists.query_tiles, shape.heads);
  const AttentionTile& tile = place.tile;
  const int64_t at = int64_t{head_of_block(shape.heads)} * kWidth;
  gpu::SharedArrays arrays;
  const ForwardTiles<kWidth, T> tiles(arrays);
  fetch_tile<kWidth>(tiles.q, HeadRows<T>(x.q_NqD, at, tile.row_begin, tile.num_rows));
  const T* q_of_warp = tiles.q + row_of_warp() * kStride<kWidth>;
  const float factor = shape.factor;

  const ForwardRows<kWidth, T> rows(y, x, lists, shape, place, image_sizes);
  Fragments<kWidth> sums;
  RunningSoftmax softmax;
  for (int r = tile.num_ranges - 1; r >= 0; --r) {  // image keys first
    const AttentionRange range = range_of(lists, tile, r);
    const WarpBounds bounds(bounds_of(lists, range));
    const int most = bounds.most();
    if (!goes_on(lists, tile, r)) {
      softmax = RunningSoftmax();
      clear(sums);
    }
    // Once a range: it would take two registers through the loops.
    const int64_t kv_at = int64_t{shape.kv_head(place.head)} * kWidth;
    const HeadRows<T> keys(x.k_NkD, kv_at, range.begin, range.count);
    const HeadRows<T> values(x.v_NkD, kv_at, range.begin, range.count);
    const auto fetch = [](T* to, const HeadRows<T>& from, int first) {
      from.template fetch<kWidth, kStep>(to, first);
      gpu::cp_async_commit();
    };
    fetch(tiles.k, keys, 0);

    const auto step = [&](auto is_boundary, int first) {
      constexpr bool kBoundary = decltype(is_boundary)::value;
      gpu::cp_async_wait<0>();
      __syncthreads();  // the keys are there, the values of the step before have been read
      fetch(tiles.v, values, first);
      Fragments<kStep> scores;
      if (first < most) {
        clear(scores);
        if (!kBoundary || !range_of(lists, tile, r).is_mean)
          add_products<kWidth, kStep>(scores, q_of_warp, tiles.k);
        if (kBoundary) hide_later_keys<kStep>(scores, bounds, first);
        if (kBoundary && may_hide(kWindows, lists, tile, r))
          hide_earlier_keys<kStep>(scores, hidden_of_rows(lists, range_of(lists, tile, r)), first);
        softmax_step<kBoundary, kWidth>(softmax, scores, sums, factor);
      }
      gpu::cp_async_wait<0>();
      __syncthreads();  // the values are there, the keys have been read
      if (first + kStep < range.count) fetch(tiles.k, keys, first + kStep);
      if (first < most) add_weighted<kWidth, kStep>(sums, scores, tiles.v);
    };
    int first = 0;
    for (; first + kStep <= range.full; first += kStep) step(std::false_type(), first);
    for (; first < range.count; first += kStep) step(std::true_type(), first);
    if (!range_of(lists, tile, r).continues) rows.end_range(sums, softmax, bounds, r);
  }
  if (tile.num_ranges == 0) clear(sums);
  rows.end_rows(sums);
  gpu::cp_async_wait<0>();  // if the tile has no ranges
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kTeamThreads, kForwardBlocks)
    forward_kernel(AttentionOutputs<T> y, AttentionInputs<T> x, AttentionLists lists,
                   AttentionShape shape) {
  forward_block<Windows::kAbsent, kWidth>(y, x, lists, shape);
}
template <int kWidth, typename T>
__global__ void __launch_bounds__(kTeamThreads, kForwardBlocks)
    forward_window_kernel(AttentionOutputs<T> y, AttentionInputs<T> x, AttentionLists lists,
                          AttentionShape shape) {
  forward_block<Windows::kPresent, kWidth>(y, x, lists, shape);
}

}  // namespace facet::cuda::mma
