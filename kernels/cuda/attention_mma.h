// Shared by the tensor-core attention kernels. A block keeps a tile of 128 rows and streams steps
// of 64 rows of the other side through shared memory. Each warp multiplies 32 rows of its tile, two
// fragments of 16, with every fragment that it loads of the other side: one ldmatrix feeds four
// products. Four warps, a team, cover the tile once; a block of backward has two teams.
//
// Steps of which every row sees everything run in a loop of their own, without predicates. Scores
// are kept as q.k; their scale and the base of the exponential are one factor of fast_exp2.
#pragma once

#include "kernels/cuda/attention_lists.h"
#include "kernels/cuda/fragments.h"
#include "kernels/cuda/rotation.h"

namespace facet::cuda::mma {

constexpr int kTeamWarps = 4, kTeamThreads = kTeamWarps * gpu::kWarpSize;
constexpr int kFragments = 2;  // of 16 rows, per warp
constexpr int kWarpRows = kFragments * 16;
static_assert(kTeamWarps * kWarpRows == kTileRows);
constexpr int kStep = kStepRows;

template <int kColumns>
using Fragments = float[kFragments][kColumns / 8][4];
using LeftOperands = uint32_t[kFragments][4];

GPU_DEVICE int thread_of_team() { return static_cast<int>(threadIdx.x % unsigned{kTeamThreads}); }
GPU_DEVICE int team_of_thread() { return static_cast<int>(threadIdx.x / unsigned{kTeamThreads}); }
// The warp's first row in the tile.
GPU_DEVICE int row_of_warp() { return thread_of_team() / gpu::kWarpSize * kWarpRows; }

// The row of the tile that holds C elements 2h and 2h + 1 of the thread's fragment m.
GPU_DEVICE int row_of(int m, int h) {
  return row_of_warp() + m * 16 + lane_of_thread() / 4 + 8 * h;
}
// The column of the thread's first element of a C; element i of column tile n is at 8 n + i % 2
// from it. (Whole columns would each take a register through the loops.)
GPU_DEVICE int first_column() { return lane_of_thread() % 4 * 2; }

// How a team copies kRows rows of a head to shared memory: kLanes neighbours share a row, so that
// a thread needs few addresses and a warp reads whole sectors.
template <int kWidth, int kRows>
struct TeamCopy {
  static constexpr int kPack = 8, kPacks = kWidth / kPack;
  static constexpr int kLanes = kWidth % 64 == 0 ? 8 : 2;
  static constexpr int kRowsAtOnce = kTeamThreads / kLanes;
  static constexpr int kCount = kRows / kRowsAtOnce;  // rows of a thread
  static_assert(kPacks % kLanes == 0 && kRows % kRowsAtOnce == 0);

  GPU_DEVICE static int row(int i) { return thread_of_team() / kLanes + i * kRowsAtOnce; }
  GPU_DEVICE static int column() { return thread_of_team() % kLanes * kPack; }
};

// The row, or the last one if there is no such row.
GPU_DEVICE int row_within(int row, int last) {
  return static_cast<int>(min(static_cast<unsigned>(row), static_cast<unsigned>(last)));
}

// Rows [begin, begin + count) of one head of a matrix in device memory, seen by a thread that
// copies them; `at`: the head's first column.
template <typename T>
class HeadRows {
 public:
  HeadRows() = default;
  template <typename From>
  GPU_DEVICE HeadRows(const From& from_D, int64_t at, int begin, int count)
      : first_(reinterpret_cast<const char*>(from_D.row(begin) + at)),
        stride_bytes_(static_cast<int>(from_D.stride * int64_t{sizeof(T)})),
        last_(count - 1) {}

  // kRows rows from the given one on; after the last come copies of it, whose weight is 0, and with
  // kBefore, where they may begin before the first, others before that.
  template <int kWidth, int kRows, bool kBefore = false>
  GPU_DEVICE void fetch(T* tile, int first) const {
    using Copy = TeamCopy<kWidth, kRows>;
    T* to = tile + Copy::row(0) * kStride<kWidth> + Copy::column();
    const char* from = first_ + Copy::column() * int{sizeof(T)};
#pragma unroll
    for (int i = 0; i < Copy::kCount; ++i) {
      const int r = first + Copy::row(i);
      const char* row =
          from + int64_t{kBefore ? row_within(r, last_) : min(r, last_)} * stride_bytes_;
#pragma unroll
      for (int c = 0; c < kWidth; c += Copy::kLanes * Copy::kPack)
        gpu::cp_async_16(to + i * Copy::kRowsAtOnce * kStride<kWidth> + c,
                         row + c * int{sizeof(T)});
    }
  }

 private:
  const char* first_;
  int stride_bytes_, last_;
};

// A team copies a tile of its block.
template <int kWidth, typename T>
GPU_DEVICE void fetch_tile(T* to, const HeadRows<T>& from) {
  from.template fetch<kWidth, kTileRows>(to, 0);
  gpu::cp_async_commit();
}

// c (32, 16 columns from n) += a b of both fragments.
template <typename T, int kTiles>
GPU_DEVICE void add_two(float (&c)[kFragments][kTiles][4], int n, const LeftOperands& a,
                        const TwoB& two) {
#pragma unroll
  for (int m = 0; m < kFragments; ++m)
#pragma unroll
    for (int j = 0; j < 2; ++j)
      gpu::mma_m16n8k16<T>(c[m][n / 8 + j], a[m], two.b[j], c[m][n / 8 + j]);
}

// The first A fragments of a warp's 32 rows, which it would load in each step.
template <int kWidth, int kCount>
class KeptRows {
 public:
  template <typename T>
  GPU_DEVICE void load(const T* rows) {
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      load_a<kWidth>(kept_[i], rows + i % kFragments * 16 * kStride<kWidth> + i / kFragments * 16);
  }
  // The fragment of 16 rows m and 16 columns k, from `rows` if it is not kept.
  template <typename T>
  GPU_DEVICE void get(uint32_t (&a)[4], const T* rows, int m, int k) const {
    const int number = k / 16 * kFragments + m;
    if (number >= kCount) return load_a<kWidth>(a, rows + m * 16 * kStride<kWidth> + k);
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = kept_[number < kCount ? number : 0][i];
  }

 private:
  uint32_t kept_[kCount > 0 ? kCount : 1][4] = {};
};

// c (32, kColumns) += a b', with the warp's 32 rows a and kColumns rows b of kWidth values.
template <int kWidth, int kColumns, typename T, int kCount = 0>
GPU_DEVICE void add_products(Fragments<kColumns>& c, const T* a_rows, const T* b_rows,
                             const KeptRows<kWidth, kCount>& kept = {}) {
#pragma unroll
  for (int k = 0; k < kWidth; k += 16) {
    LeftOperands a;
#pragma unroll
    for (int m = 0; m < kFragments; ++m) kept.get(a[m], a_rows, m, k);
#pragma unroll
    for (int n = 0; n < kColumns; n += 16)
      add_two<T>(c, n, a, load_b_of_columns<kWidth>(b_rows + n * kStride<kWidth> + k));
  }
}

// 16 columns of weights from k, rounded to T, as left operands of both fragments.
template <typename T, int kK>
GPU_DEVICE void round_weights(LeftOperands& a, const Fragments<kK>& weights, int k) {
#pragma unroll
  for (int m = 0; m < kFragments; ++m)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const auto& c = weights[m][k / 8 + i / 2];
      a[m][i] = gpu::pair_of<T>(c[i % 2 * 2], c[i % 2 * 2 + 1]);
    }
}

// Column n of kColumns from a head of kWidth: half of them are in each half of the head. A thread
// that has a column then has its partner in the rotation, too.
template <int kWidth, int kColumns>
GPU_DEVICE int column_of_head(int n) {
  return n < kColumns / 2 ? n : n + (kWidth - kColumns) / 2;
}

// sum (32, kColumns) += a times 16 rows of a tile of kWidth columns, from the first of the two
// halves on.
template <int kWidth, int kColumns, typename T>
GPU_DEVICE void add_operands(Fragments<kColumns>& sum, const LeftOperands& a, const T* rows) {
  static_assert(kColumns == kWidth || kColumns / 2 % 16 == 0);
#pragma unroll
  for (int n = 0; n < kColumns; n += 16)
    add_two<T>(sum, n, a, load_b_of_rows<kWidth>(rows + column_of_head<kWidth, kColumns>(n)));
}

// sum (32, kWidth) += weights (32, kK), rounded to T, times kK rows.
template <int kWidth, int kK, typename T>
GPU_DEVICE void add_weighted(Fragments<kWidth>& sum, const Fragments<kK>& weights, const T* rows) {
#pragma unroll
  for (int k = 0; k < kK; k += 16) {
    LeftOperands a;
    round_weights<T, kK>(a, weights, k);
    add_operands<kWidth, kWidth>(sum, a, rows + k * kStride<kWidth>);
  }
}

template <int kTiles>
GPU_DEVICE void clear(float (&c)[kFragments][kTiles][4]) {
#pragma unroll
  for (int m = 0; m < kFragments; ++m)
#pragma unroll
    for (int n = 0; n < kTiles; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) c[m][n][i] = 0;
}

// Calls body(m, h, row of the tile) for the four rows of the thread.
template <typename Body>
GPU_DEVICE void for_rows(const Body& body) {
#pragma unroll
  for (int m = 0; m < kFragments; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) body(m, h, row_of(m, h));
}

template <int kTiles>
GPU_DEVICE void multiply_row(float (&c)[kTiles][4], int h, float factor) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    c[n][2 * h] *= factor;
    c[n][2 * h + 1] *= factor;
  }
}

template <int kTiles>
GPU_DEVICE void clear_row(float (&c)[kTiles][4], int h) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n) c[n][2 * h] = c[n][2 * h + 1] = 0;
}

// Rounds and stores the thread's elements of half h of a C into one row of E values.
template <typename T, int kTiles>
GPU_DEVICE void store_row(T* row_E, const float (&c)[kTiles][4], int h) {
  T* to = row_E + first_column();
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
    gpu::store_pair(to + n * 8, gpu::pair_of<T>(c[n][2 * h], c[n][2 * h + 1]));
}

struct alignas(8) TwoFloats {
  float v[2];
};
template <typename T>
GPU_DEVICE TwoFloats floats_of(uint32_t pair) {
  T two[2];
  memcpy(static_cast<void*>(two), &pair, sizeof pair);
  return {{gpu::to_float(two[0]), gpu::to_float(two[1])}};
}

// Turns channels of a row of T back, which the two halves of a head have at the same place.
template <typename T>
GPU_DEVICE void turn_back(uint32_t& low, uint32_t& high, const TwoFloats& cos,
                          const TwoFloats& sin) {
  const TwoFloats a = floats_of<T>(low), b = floats_of<T>(high);
  const Turned first = turned(a.v[0], b.v[0], cos.v[0], -sin.v[0]);
  const Turned second = turned(a.v[1], b.v[1], cos.v[1], -sin.v[1]);
  low = gpu::pair_of<T>(first.low, second.low);
  high = gpu::pair_of<T>(first.high, second.high);
}

// The thread's angles of one row, of kCount column tiles of either half of a head from column
// `begin` on.
template <int kCount>
struct ThreadAngles {
  TwoFloats cos[kCount], sin[kCount];

  GPU_DEVICE void load(const RowAngles& row, int begin) {
    const int first = begin + first_column();
#pragma unroll
    for (int n = 0; n < kCount; ++n) {
      cos[n] = *reinterpret_cast<const TwoFloats*>(row.cos_E + first + n * 8);
      sin[n] = *reinterpret_cast<const TwoFloats*>(row.sin_E + first + n * 8);
    }
  }
};

// Rounds the thread's elements of half h of a C, turns them back by the angles of their row, if
// there are any, and stores them into the row of a head, from column `begin` of either half on. All
// angles are loaded first: the compiler does not move a load over a store.
template <int kWidth, typename T, int kTiles>
GPU_DEVICE void store_turned_row(T* row_E, int begin, const float (&c)[kTiles][4], int h,
                                 const RowAngles& row) {
  constexpr int kHalf = kTiles / 2;
  const bool turns = row.cos_E != nullptr;
  ThreadAngles<kHalf> angles;
  if (turns) angles.load(row, begin);
  T* to = row_E + begin + first_column();
#pragma unroll
  for (int n = 0; n < kHalf; ++n) {
    uint32_t low = gpu::pair_of<T>(c[n][2 * h], c[n][2 * h + 1]);
    uint32_t high = gpu::pair_of<T>(c[n + kHalf][2 * h], c[n + kHalf][2 * h + 1]);
    if (turns) turn_back<T>(low, high, angles.cos[n], angles.sin[n]);
    gpu::store_pair(to + n * 8, low);
    gpu::store_pair(to + n * 8 + kWidth / 2, high);
  }
}

// c += the thread's elements of one row of E values, as half h of a C.
template <typename T, int kTiles>
GPU_DEVICE void add_row(float (&c)[kTiles][4], int h, const T* row_E) {
  const T* from = row_E + first_column();
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const TwoFloats two = floats_of<T>(gpu::load_pair(from + n * 8));
    c[n][2 * h] += two.v[0];
    c[n][2 * h + 1] += two.v[1];
  }
}

// The bounds of the warp's rows in a range, one in each lane.
class WarpBounds {
 public:
  GPU_DEVICE explicit WarpBounds(const int32_t* bounds)
      : bound_(bounds[row_of_warp() + lane_of_thread()]) {}
  GPU_DEVICE int most() const { return __reduce_max_sync(gpu::kFullWarp, bound_); }
  GPU_DEVICE int least() const { return __reduce_min_sync(gpu::kFullWarp, bound_); }
  // Of the thread's row; by all lanes.
  GPU_DEVICE int of(int m, int h) const {
    return __shfl_sync(gpu::kFullWarp, bound_, m * 16 + h * 8 + lane_of_thread() / 4);
  }

 private:
  int bound_;
};

// Hides all but the first `visible` keys of half h of a C, counted from the thread's first column.
template <int kTiles>
GPU_DEVICE void hide_keys_of_row(float (&scores)[kTiles][4], int h, int visible) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int i = 2 * h; i < 2 * h + 2; ++i)
      if (n * 8 + i % 2 >= visible) scores[n][i] = -INFINITY;
}

// Hides the keys that a row does not see; `first` is the number of the first key.
template <int kKeys>
GPU_DEVICE void hide_later_keys(Fragments<kKeys>& scores, const WarpBounds& bounds, int first) {
  for_rows([&](int m, int h, int) {
    hide_keys_of_row(scores[m], h, bounds.of(m, h) - first - first_column());
  });
}

// Kernels for lists with windows are instances of their own: the others pay no register for them.
enum class Windows : uint8_t { kAbsent, kPresent };
GPU_DEVICE bool may_hide(Windows windows, const AttentionLists& lists, const AttentionTile& tile,
                         int range) {
  return windows == Windows::kPresent && range_of(lists, tile, range).is_window;
}

// Hides the keys before a row's window; hidden_of_row[i] is of row i of the tile.
template <int kKeys>
GPU_DEVICE void hide_earlier_keys(Fragments<kKeys>& scores, const int32_t* hidden_of_row,
                                  int first) {
  for_rows([&](int m, int h, int row) {
    const int hidden = hidden_of_row[row] - first - first_column();
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int i = 2 * h; i < 2 * h + 2; ++i)
        if (n * 8 + i % 2 < hidden) scores[m][n][i] = -INFINITY;
  });
}

// The tile and head of a block. Heads run fastest: blocks that run at the same time are of the same
// length, and those of one group share keys and values. It lies in shared memory for use after the
// loops of the kernels, in which every register counts.
struct BlockPlace {
  AttentionTile tile;
  int head;
};
// The same head, as a number that the whole block has in one register.
GPU_DEVICE int head_of_block(int heads) {
  return static_cast<int>(blockIdx.x % static_cast<unsigned>(heads));
}
GPU_DEVICE void find_place(BlockPlace& place, const AttentionLists& lists, int32_t tiles,
                           int heads) {
  if (threadIdx.x == 0) {
    const unsigned tile = blockIdx.x / static_cast<unsigned>(heads);
    place.tile = reinterpret_cast<const AttentionTile*>(lists.data + tiles)[tile];
    place.head = head_of_block(heads);
  }
  __syncthreads();
}
inline dim3 grid_of(int32_t tiles, int32_t heads) {
  return {static_cast<unsigned>(tiles) * static_cast<unsigned>(heads)};
}

template <size_t kIndex>
using TensorCoreWidth = std::integral_constant<int, kTensorCoreWidths[kIndex]>;

// Calls body(integral constant of the head width) and returns true if the tensor-core kernels
// support the call, else returns false.
template <typename Body>
bool with_width(int width, RowAccess access, const Body& body) {
  if (access != RowAccess::kPacked) return false;
  switch (width) {
    case kTensorCoreWidths[0]: body(TensorCoreWidth<0>()); return true;
    case kTensorCoreWidths[1]: body(TensorCoreWidth<1>()); return true;
    case kTensorCoreWidths[2]: body(TensorCoreWidth<2>()); return true;
    default: return false;
  }
}

}  // namespace facet::cuda::mma
