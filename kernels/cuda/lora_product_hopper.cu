// D (N,M) = alpha (sum of narrow factor) + left right + bias + residual, rounded once: forward with
// left = x, right = W', narrow = u, factor = lora_left and alpha its scale; backward with left =
// dy, right = W, narrow = du, factor = lora_right', and alpha = 1.
//
// A block stays on its multiprocessor and takes one tile of 128 x 256 after the other: a warpgroup
// of which one thread fetches steps of 64 terms by TMA into a ring, and two that multiply 64 rows
// each. The adapters' steps come first, so that alpha is a factor of fp32 sums and no operand is
// rounded for it; what is missing up to 64 terms, rows or columns arrives as zeros. While a tile is
// stored, the first steps of the next one arrive.
//
// Two blocks form a cluster, whose tiles have the same columns and neighbouring rows: each fetches
// half of a step of the right operand for both. Where no rows are left for the second, it
// multiplies zeros and stores nothing.
//
// With a rotation, forward turns the heads of a tile in registers, where a thread has both columns
// of each pair; what it turns it has rounded, as a pass over y would find it. The angles of the
// tile's rows come through the ring behind its last step: 64 KiB for heads of 128 columns, beside 3
// MiB of x and W at 4096 inputs, and there when its last product is done.
//
// du has more than 16 bits: two numbers of 16 bits each, of which each half is a narrow matrix of
// its own (lora_mma.h).
#include "kernels/cuda/lora_product_hopper.h"

#include <algorithm>
#include <stdexcept>

#include "kernels/cuda/hopper_ring.h"
#include "kernels/cuda/rotation.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda::hopper {
namespace {

using gpu::Major;

constexpr int kStages = 4, kStep = 64;
constexpr int kTileRows = 128, kTileCols = 256, kPanelCols = 64;
constexpr int kWarpRows = 16;
static_assert(kConsumers * kConsumerRows == kTileRows && kConsumerRows == 4 * kWarpRows);
// Of a thread: the sums of a consumer are 128.
constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;

constexpr int kLeft = kTileRows * kStep, kRight = kTileCols * kStep;  // elements of a stage
constexpr int kPanel = kStep * kPanelCols;
// Of a cluster: each block fetches its share of `right` for all of them.
constexpr int kBlocks = 2;
constexpr int kClusterRows = kBlocks * kTileRows;
constexpr int kShareCols = kTileCols / kBlocks, kShare = kRight / kBlocks;
constexpr unsigned kAllBlocks = (1u << kBlocks) - 1;
static_assert(kShareCols % kPanelCols == 0);
// Angles of a stage: cos and sin of 32 columns, in the place of `right`. TMA takes each as two
// elements of 16 bits, which it only moves.
constexpr int kAngleCols = 32, kAngles = kTileRows * 2 * kAngleCols;
static_assert(2 * kAngles <= kRight && 2 * kAngleCols == kStep);
constexpr int kStaged = kWarpRows * kPanelCols;  // sums that a warp stores at a time

// How the other factor lies in memory: where W's rows are columns of the product, those of an
// adapter's factor are its terms.
template <Major kMajor>
constexpr Major kOther = kMajor == Major::kK ? Major::kN : Major::kK;

// ---- what is multiplied

struct Adapter {
  gpu::TensorMap narrow, factor;
  int terms;
};
// Columns of D that take the same adapters.
struct Columns {
  int begin, count;
  int first_adapter, last_adapter;  // [first, last)
};

constexpr int kMostAdapters = 2 * kMostLoraParts;
constexpr int kMostColumns = 2 * kMostLoraParts + 2;  // one more where heads that are turned end
struct Job {
  gpu::TensorMap left, right;
  gpu::TensorMap cos, sin;  // if there are turned columns
  Adapter adapters[kMostAdapters];
  Columns columns[kMostColumns];
  int num_columns, rows, terms;
  int row_tiles, col_tiles;  // tiles of a cluster: kClusterRows x kTileCols
  int turned_cols;           // of D, the first ones: whole heads, where Columns end
  float alpha;
};
static_assert(sizeof(Job) <= 3 << 10, "kernels take 4 KiB of parameters");

template <typename T>
struct Sum {
  Rows<T> d;
  Rows<const T> residual;  // or none
  const T* bias;           // or none
  RowAccess bias_access;
};

struct Tile {
  int row, col;    // of D
  int of_columns;  // the first column within its Columns
  int cols;
  const Columns* columns;
};

GPU_DEVICE int tiles_of(int size, int tile) { return (size + tile - 1) / tile; }

// This block's part of the cluster's tile of that number. Tiles follow each other in bands of 16
// rows of blocks, column by column: those that run at the same time share rows and columns in the
// L2 cache.
GPU_DEVICE Tile tile_at(const Job& job, int number) {
  constexpr int kBand = 16 / kBlocks;
  const int band = number / (kBand * job.col_tiles), in_band = number % (kBand * job.col_tiles);
  const int rows = min(kBand, job.row_tiles - band * kBand);
  const Columns* columns = job.columns;
  int col_tile = in_band / rows;
  for (; col_tile >= tiles_of(columns->count, kTileCols); ++columns)
    col_tile -= tiles_of(columns->count, kTileCols);
  const int of_columns = col_tile * kTileCols;
  const int row = (band * kBand + in_band % rows) * kClusterRows;
  return {row + static_cast<int>(gpu::block_in_cluster()) * kTileRows, columns->begin + of_columns,
          of_columns, min(kTileCols, columns->count - of_columns), columns};
}
GPU_DEVICE bool is_turned(const Job& job, const Tile& tile) { return tile.col < job.turned_cols; }

// ---- the ring

using Ring = Side<kStages>;
using Place = RingPlace<kStages>;
// Blocks take part in each other's barriers from here on.
GPU_DEVICE void init_ring(Ring& ring) {
  if (threadIdx.x == 0) {
    init_side(ring, 1, kBlocks * kConsumerWarps);
    gpu::fence_barrier_init();
  }
  gpu::sync_cluster();
}
// Each block writes to the stages of all, so its producer waits for the consumers of all. Another
// block's may release a stage of angles, which took nothing from this block, while arrivals of the
// release before are still on their way here, and be counted in their place. No harm: that block's
// own producer had waited for all consumers, so all have given the release before.
GPU_DEVICE void release_to_all(Ring& ring, int stage) {
  if (lane_of_thread() != 0) return;
  gpu::arrive(ring.empty[stage]);
#pragma unroll
  for (unsigned i = 1; i < kBlocks; ++i)
    gpu::arrive_in_cluster(ring.empty[stage], (gpu::block_in_cluster() + i) % kBlocks);
}

template <typename T>
struct Memory {
  GPU_DEVICE explicit Memory(gpu::Tiles& tiles)
      : left(tiles.take<T>(kStages * kLeft)),
        right(tiles.take<T>(kStages * kRight)),
        sums(tiles.take<float>(kConsumerWarps * kStaged)) {}
  static constexpr size_t bytes() {
    return kStages * (kLeft + kRight) * sizeof(T) + kConsumerWarps * kStaged * sizeof(float);
  }
  T *left, *right;
  float* sums;
};

// ---- the producer: one thread

template <typename T>
class Producer {
 public:
  GPU_DEVICE Producer(const Memory<T>& memory, Ring& ring) : memory_(memory), ring_(ring) {}

  template <Major kMajor, int kHeadWidth>
  GPU_DEVICE void fetch_tile(const Job& job, const Tile& tile) {
    for (int a = tile.columns->first_adapter; a < tile.columns->last_adapter; ++a) {
      const Adapter& adapter = job.adapters[a];
      for (int k = 0; k < adapter.terms; k += kStep)
        fetch<kOther<kMajor>>(adapter.narrow, adapter.factor, tile.row, tile.of_columns, k);
    }
    for (int k = 0; k < job.terms; k += kStep)
      fetch<kMajor>(job.left, job.right, tile.row, tile.col, k);
    if (!is_turned(job, tile)) return;
    for (int c = 0; c < kHeadWidth / 2; c += kAngleCols) fetch_angles(job, tile.row, c);
  }

  // The block must be there until the other's consumers, too, have released its stages for the last
  // time.
  GPU_DEVICE void wait_for_last_releases() {
    for (int s = 0; s < kStages; ++s) {
      wait_until_empty(ring_, place_);
      place_.advance();
    }
  }

 private:
  template <Major kMajor>
  GPU_DEVICE void fetch(const gpu::TensorMap& left, const gpu::TensorMap& right, int row, int col,
                        int term) {
    gpu::Barrier& full = ring_.full[place_.stage];
    const int block = static_cast<int>(gpu::block_in_cluster());
    T* share = memory_.right + place_.stage * kRight + block * kShare;
    wait_until_empty(ring_, place_);
    gpu::arrive_expecting(full, (kLeft + kRight) * sizeof(T));
    gpu::load_box(memory_.left + place_.stage * kLeft, left, full, term, row);
    col += block * kShareCols;
    if constexpr (kMajor == Major::kK) {
      gpu::load_box_to_cluster(share, right, full, term, col, kAllBlocks);
    } else {
#pragma unroll
      for (int p = 0; p < kShareCols / kPanelCols; ++p)
        gpu::load_box_to_cluster(share + p * kPanel, right, full, col + p * kPanelCols, term,
                                 kAllBlocks);
    }
    place_.advance();
  }
  GPU_DEVICE void fetch_angles(const Job& job, int row, int col) {
    gpu::Barrier& full = ring_.full[place_.stage];
    T* angles = memory_.right + place_.stage * kRight;
    wait_until_empty(ring_, place_);
    gpu::arrive_expecting(full, 2 * kAngles * sizeof(T));
    gpu::load_box(angles, job.cos, full, 2 * col, row);
    gpu::load_box(angles + kAngles, job.sin, full, 2 * col, row);
    place_.advance();
  }

  const Memory<T>& memory_;
  Ring& ring_;
  Place place_;
};

// ---- a consumer: a warpgroup

GPU_DEVICE int consumer_warp_of_thread() {
  return static_cast<int>((threadIdx.x - unsigned{gpu::kWarpgroupSize}) / unsigned{gpu::kWarpSize});
}

// Of a thread: rows lane / 4 and that + 8 of its warp's, and in each eight columns two from 2 (lane
// % 4) on.
using Sums = float[kTileCols / 8][4];

GPU_DEVICE int row_of_lane() { return lane_of_thread() / 4; }
GPU_DEVICE int col_of_lane() { return lane_of_thread() % 4 * 2; }

struct alignas(8) TwoSums {
  float v[2];
};

template <typename T>
GPU_DEVICE void add_bias(Sums& sums, const T* bias, const Tile& tile) {
#pragma unroll
  for (int n = 0; n < kTileCols / 8; ++n) {
    if (n * 8 >= tile.cols) continue;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float added = gpu::to_float(bias[tile.col + n * 8 + col_of_lane() + i]);
      sums[n][i] += added;
      sums[n][2 + i] += added;
    }
  }
}

// Turns the pairs of columns of every head whose angles are in `cos` and `sin`: a swizzled tile
// each, of the block's rows and kAngleCols columns from `begin` on. Sums are rounded to T first.
template <typename T, int kHeadWidth>
GPU_DEVICE void turn(Sums& sums, const float* cos, const float* sin, int begin) {
  const auto two_of = [](const float* angles, int row, int col) {
    return *reinterpret_cast<const TwoSums*>(angles + gpu::swizzled_place<float>(row, col / 4) +
                                             col % 4);
  };
  const auto rounded = [](float sum) { return gpu::to_float(gpu::from_float<T>(sum)); };
#pragma unroll
  for (int n = 0; n < kAngleCols / 8; ++n)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = consumer_warp_of_thread() * kWarpRows + row_of_lane() + 8 * h;
      const TwoSums c = two_of(cos, row, n * 8 + col_of_lane());
      const TwoSums s = two_of(sin, row, n * 8 + col_of_lane());
#pragma unroll
      for (int head = 0; head < kTileCols; head += kHeadWidth)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& low = sums[(head + begin) / 8 + n][2 * h + i];
          float& high = sums[(head + begin + kHeadWidth / 2) / 8 + n][2 * h + i];
          const Turned pair = turned(rounded(low), rounded(high), c.v[i], s.v[i]);
          low = pair.low;
          high = pair.high;
        }
    }
}

template <typename T>
class Consumer {
 public:
  GPU_DEVICE Consumer(const Memory<T>& memory, Ring& ring) : memory_(memory), ring_(ring) {}

  template <Major kMajor>
  GPU_DEVICE void multiply_tile(Sums& sums, const Job& job, const Tile& tile) {
    clear(sums);
    for (int a = tile.columns->first_adapter; a < tile.columns->last_adapter; ++a)
      for (int k = 0; k < job.adapters[a].terms; k += kStep) {
        multiply<kOther<kMajor>>(sums);
        gpu::wgmma_wait<0>(sums);
        release_to_all(ring_, place_.stage);
        place_.advance();
      }
    // Also where alpha is 1: without it ptxas has every product wait for the one before.
    multiply_by(sums, job.alpha);
    int before = place_.stage;
    for (int k = 0; k < job.terms; k += kStep) {
      multiply<kMajor>(sums);
      if (k > 0) {
        gpu::wgmma_wait<1>();
        release_to_all(ring_, before);
      }
      before = place_.stage;
      place_.advance();
    }
    gpu::wgmma_wait<0>(sums);
    release_to_all(ring_, before);
  }
  // By the angles that come behind the tile's steps.
  template <int kHeadWidth>
  GPU_DEVICE void turn_tile(Sums& sums) {
#pragma unroll
    for (int c = 0; c < kHeadWidth / 2; c += kAngleCols) {
      const T* angles = memory_.right + place_.stage * kRight;
      wait_until_full(ring_, place_);
      turn<T, kHeadWidth>(sums, reinterpret_cast<const float*>(angles),
                          reinterpret_cast<const float*>(angles + kAngles), c);
      __syncwarp();  // all lanes have read the angles
      release_to_all(ring_, place_.stage);
      place_.advance();
    }
  }

 private:
  // sums (64,256) += 64 terms, under way.
  template <Major kMajor>
  GPU_DEVICE void multiply(Sums& sums) {
    const T* left =
        memory_.left + place_.stage * kLeft + consumer_of_thread() * kConsumerRows * kStep;
    const T* right = memory_.right + place_.stage * kRight;
    wait_until_full(ring_, place_);
    gpu::wgmma_fence(sums);
    constexpr int kBytes = static_cast<int>(sizeof(T));
    const uint64_t a = gpu::operand_of_columns(left, 0);
    const uint64_t b = kMajor == Major::kK ? gpu::operand_of_columns(right, 0)
                                           : gpu::operand_of_rows(right, 0, kPanel * kBytes);
#pragma unroll
    for (int k = 0; k < kStep; k += 16)
      gpu::wgmma_m64k16<T, kMajor>(
          sums, gpu::shifted(a, k * kBytes),
          gpu::shifted(b, k * kBytes * (kMajor == Major::kK ? 1 : kPanelCols)), true);
    gpu::wgmma_commit();
  }
  GPU_DEVICE static void clear(Sums& sums) {
#pragma unroll
    for (auto& four : sums)
#pragma unroll
      for (float& sum : four) sum = 0;
  }
  GPU_DEVICE static void multiply_by(Sums& sums, float factor) {
#pragma unroll
    for (auto& four : sums)
#pragma unroll
      for (float& sum : four) sum *= factor;
  }

  const Memory<T>& memory_;
  Ring& ring_;
  Place place_;
};

// ---- storing: each warp its 16 rows, a panel at a time

// The place of a sum in the warp's panel: eight neighbours keep together in fours. Of the pairs
// that lanes write at once, and of the fours that they read, no two are in the same bank.
GPU_DEVICE int place_of_sum(int row, int col) {
  return row * kPanelCols + (col ^ row % 4 * 8 ^ col / 32 * 4);
}

GPU_DEVICE void stage_panel(float* staged, const Sums& sums, int panel) {
  const int row = row_of_lane(), col = col_of_lane();
#pragma unroll
  for (int n = 0; n < kPanelCols / 8; ++n) {
    const auto& four = sums[panel * (kPanelCols / 8) + n];
#pragma unroll
    for (int h = 0; h < 2; ++h)
      *reinterpret_cast<TwoSums*>(staged + place_of_sum(row + 8 * h, n * 8 + col)) = {
          four[2 * h], four[2 * h + 1]};
  }
}

// D's packs from (row, col) on: up to 16 rows and 64 columns of it, which has (rows, cols) left
// there.
template <typename T>
GPU_DEVICE void store_panel(const float* staged, const Sum<T>& sum, int row, int col, int rows,
                            int cols) {
  constexpr int kPack = gpu::Pack<T>::kSize, kFour = gpu::Pack<float>::kSize;
  constexpr int kPacks = kPanelCols / kPack, kRowsAtOnce = gpu::kWarpSize / kPacks;
  static_assert(kPack == 2 * kFour);
  const int c = lane_of_thread() % kPacks * kPack;
#pragma unroll
  for (int r = lane_of_thread() / kPacks; r < kWarpRows; r += kRowsAtOnce) {
    if (r >= rows || c >= cols) continue;
    const int64_t at = col + c;
    float total[kPack], more[kPack];
    const auto low = gpu::load_pack(staged + place_of_sum(r, c));
    const auto high = gpu::load_pack(staged + place_of_sum(r, c + kFour));
#pragma unroll
    for (int i = 0; i < kPack; ++i) total[i] = i < kFour ? low.v[i] : high.v[i - kFour];
    const auto add = [&](const T* from, RowAccess access) {
      load_floats(more, from, at, at + kPack, access);
#pragma unroll
      for (int i = 0; i < kPack; ++i) total[i] += more[i];
    };
    if (sum.bias) add(sum.bias, sum.bias_access);
    if (sum.residual.data) add(sum.residual.row(row + r), RowAccess::kPacked);
    store_floats(sum.d.row(row + r), total, at, at + kPack, RowAccess::kPacked);
  }
}

template <typename T>
GPU_DEVICE void store_tile(float* staged, const Sums& sums, const Sum<T>& sum, int rows,
                           const Tile& tile) {
  const int row = tile.row + consumer_warp_of_thread() * kWarpRows;
#pragma unroll
  for (int panel = 0; panel < kTileCols / kPanelCols; ++panel) {
    const int col = panel * kPanelCols;
    __syncwarp();  // all lanes have read the panel before
    stage_panel(staged, sums, panel);
    __syncwarp();
    store_panel(staged, sum, row, tile.col + col, rows - row, tile.cols - col);
  }
}

// kHeadWidth: of the heads that are turned, 0 for none.
template <typename T, Major kMajor, int kHeadWidth>
__global__ void __launch_bounds__(kThreads, 1)
    lora_product_kernel(Sum<T> sum, const __grid_constant__ Job job) {
  GPU_SHARED(Ring, ring, );
  gpu::Tiles tiles;
  const Memory<T> memory(tiles);
  init_ring(ring);
  const int count = job.row_tiles * job.col_tiles, step = static_cast<int>(gridDim.x) / kBlocks;
  int number = static_cast<int>(blockIdx.x) / kBlocks;
  if (consumer_of_thread() < 0) {
    gpu::lower_registers<kProducerRegisters>();
    if (threadIdx.x != 0) return;
    Producer<T> producer(memory, ring);
    for (; number < count; number += step)
      producer.template fetch_tile<kMajor, kHeadWidth>(job, tile_at(job, number));
    producer.wait_for_last_releases();
    return;
  }
  gpu::raise_registers<kConsumerRegisters>();
  Consumer<T> consumer(memory, ring);
  Sums sums;
  for (; number < count; number += step) {
    const Tile tile = tile_at(job, number);
    consumer.template multiply_tile<kMajor>(sums, job, tile);
    Sum<T> stored = sum;
    if (kHeadWidth > 0 && is_turned(job, tile)) {
      if (sum.bias) add_bias(sums, sum.bias, tile);
      consumer.template turn_tile<kHeadWidth>(sums);
      stored.bias = nullptr;
    }
    store_tile(memory.sums + consumer_warp_of_thread() * kStaged, sums, stored, job.rows, tile);
  }
}

// ---- the host's side

template <typename T>
gpu::TensorMap map_of(const Operand& x, int box_rows) {
  return gpu::make_tensor_map(static_cast<const T*>(x.data), x.rows, x.cols, x.stride, box_rows,
                              kStep);
}
template <typename T>
gpu::TensorMap map_of_left(const Operand& x) {
  return map_of<T>(x, kTileRows);
}
template <typename T, Major kMajor>
gpu::TensorMap map_of_right(const Operand& x) {
  static_assert(kStep == kPanelCols);
  return map_of<T>(x, kMajor == Major::kK ? kShareCols : kStep);
}

int as_int(int64_t size) {
  if (size > std::numeric_limits<int>::max() - kTileCols)
    throw std::invalid_argument("a product of more than 2^31 rows or columns");
  return static_cast<int>(size);
}

template <typename T, Major kMajor>
Adapter adapter_of(const Operand& narrow, const Operand& factor) {
  return {map_of_left<T>(narrow), map_of_right<T, kOther<kMajor>>(factor), as_int(narrow.cols)};
}

void add_columns(Job& job, int64_t begin, int64_t end, int first_adapter, int last_adapter) {
  if (begin == end) return;
  job.columns[job.num_columns++] = {as_int(begin), as_int(end - begin), first_adapter,
                                    last_adapter};
  job.col_tiles += as_int((end - begin + kTileCols - 1) / kTileCols);
}

template <typename T, Major kMajor>
Job job_of(const Operand& left, const Operand& right, float alpha) {
  Job job{};
  job.left = map_of_left<T>(left);
  job.right = map_of_right<T, kMajor>(right);
  job.rows = as_int(left.rows);
  job.terms = as_int(left.cols);
  job.row_tiles = as_int((left.rows + kClusterRows - 1) / kClusterRows);
  job.alpha = alpha;
  return job;
}

void add_rotation(Job& job, const RotationOperands& rotation) {
  const auto map_of_angles = [](const Operand& x) {
    const Operand halves{x.data, x.rows, 2 * x.cols, 2 * x.stride, DType::kBF16};
    return map_of<gpu::bf16>(halves, kTileRows);
  };
  job.cos = map_of_angles(rotation.cos_NE);
  job.sin = map_of_angles(rotation.sin_NE);
  job.turned_cols = as_int(rotation.columns());
}

// One of the two numbers of each element of du.
template <typename T>
Operand half_of(const Operand& du_Nr, int half) {
  return {static_cast<T*>(du_Nr.data) + half * du_Nr.cols, du_Nr.rows, du_Nr.cols, 2 * du_Nr.stride,
          du_Nr.dtype};
}

template <typename T, Major kMajor, int kHeadWidth = 0>
void run(const Job& job, const Operand& d, const Operand& bias, const Operand& residual, int blocks,
         cudaStream_t stream) {
  const Sum<T> sum{rows_of<T>(d), rows_of<const T>(residual), static_cast<const T*>(bias.data),
                   row_access({{.data = bias.data, .rows = 1}})};
  const int clusters = std::clamp(blocks / kBlocks, 1, job.row_tiles * job.col_tiles);
  gpu::launch(stream,
              {.grid = static_cast<unsigned>(clusters * kBlocks),
               .block = kThreads,
               .shared_bytes = Memory<T>::bytes(),
               .cluster = kBlocks},
              lora_product_kernel<T, kMajor, kHeadWidth>, sum, job);
}

template <typename T>
void start_forward(const Operand& y_NO, const Operand& x_NI, const Operand& weight_OI,
                   const Operand& bias_O, const Operand& residual_NO,
                   std::span<const LoraPartOperands> parts, float scale,
                   const RotationOperands& rotation, int blocks, cudaStream_t stream) {
  Job job = job_of<T, Major::kK>(x_NI, weight_OI, scale);
  if (rotation.heads > 0) add_rotation(job, rotation);
  const auto add_plain_columns = [&](int64_t first, int64_t last) {
    const int64_t cut = std::clamp(rotation.columns(), first, last);
    add_columns(job, first, cut, 0, 0);
    add_columns(job, cut, last, 0, 0);
  };
  int64_t end = 0;
  int adapters = 0;
  for (const LoraPartOperands& part : parts) {
    add_plain_columns(end, part.begin);
    end = part.begin + part.left_rO.cols;
    add_columns(job, part.begin, end, adapters, adapters + 1);
    job.adapters[adapters++] = adapter_of<T, Major::kK>(part.u_Nr, part.left_rO);
  }
  add_plain_columns(end, y_NO.cols);
  const auto start = [&](auto head_width) {
    run<T, Major::kK, head_width()>(job, y_NO, bias_O, residual_NO, blocks, stream);
  };
  if (rotation.heads == 0) return start(std::integral_constant<int, 0>());
  if (rotation.head_width() == 64) return start(std::integral_constant<int, 64>());
  start(std::integral_constant<int, 128>());
}

template <typename T>
void start_backward_input(const Operand& dx_NI, const Operand& dy_NO, const Operand& weight_OI,
                          std::span<const LoraPartOperands> parts, int blocks,
                          cudaStream_t stream) {
  Job job = job_of<T, Major::kN>(dy_NO, weight_OI, 1);
  int adapters = 0;
  for (const LoraPartOperands& part : parts)
    for (int half = 0; half < 2; ++half)
      job.adapters[adapters++] =
          adapter_of<T, Major::kN>(half_of<T>(part.du_Nr, half), part.right_Ir);
  add_columns(job, 0, dx_NI.cols, 0, adapters);
  run<T, Major::kN>(job, dx_NI, {}, {}, blocks, stream);
}

// Calls body(T()) for the type of 16 bits.
template <typename Body>
void with_half(DType dtype, const Body& body) {
  with_type(dtype, [&](auto zero) {
    if constexpr (sizeof(zero) == 2) body(zero);
  });
}

}  // namespace

bool lora_product_turns(const RotationOperands& rotation, std::span<const LoraPartOperands> parts) {
  const int64_t width = rotation.head_width(), turned = rotation.columns();
  bool turns = rotation.heads > 0 && (width == 64 || width == 128) &&
               row_access({rotation.cos_NE, rotation.sin_NE}) == RowAccess::kPacked;
  for (const LoraPartOperands& part : parts) {
    const int64_t end = part.begin + part.left_rO.cols;
    turns = turns && (part.begin >= turned ||
                      (part.begin % width == 0 && end % width == 0 && end <= turned));
  }
  return turns;
}

void lora_product_forward(const Operand& y_NO, const Operand& x_NI, const Operand& weight_OI,
                          const Operand& bias_O, const Operand& residual_NO,
                          std::span<const LoraPartOperands> parts, float scale,
                          const RotationOperands& rotation, int blocks, cudaStream_t stream) {
  with_half(y_NO.dtype, [&](auto zero) {
    start_forward<decltype(zero)>(y_NO, x_NI, weight_OI, bias_O, residual_NO, parts, scale,
                                  rotation, blocks, stream);
  });
}

void lora_product_backward_input(const Operand& dx_NI, const Operand& dy_NO,
                                 const Operand& weight_OI, std::span<const LoraPartOperands> parts,
                                 int blocks, cudaStream_t stream) {
  with_half(dx_NI.dtype, [&](auto zero) {
    start_backward_input<decltype(zero)>(dx_NI, dy_NO, weight_OI, parts, blocks, stream);
  });
}

}  // namespace facet::cuda::hopper
