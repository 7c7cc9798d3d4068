// Backward attention over a work list (attention_work.h). With P recomputed from lse, delta = dout
// . (the slot's share of out) and dS = P (dout V' - delta): dq = scale dS K, dk = scale dS' Q, dv =
// P' dout (+ dout for self rows), summed over parts, and dk, dv over the query heads that share a
// key/value head. Overwrites dq (Nq,H*E), dk, dv (Nk,G*E) and the workspace delta (slots,H,Nq). The
// kernels turn dq and dk back where they store them, with the bits of rope.cu behind them.
//
// Three launches: delta (attention_delta.h), then dk and dv by key rows and dq by query rows, so
// that every output is written by one block, in a fixed order. Blocks of keys are few and long
// where query heads share them: when the last of them run, blocks of queries take the
// multiprocessors that are free. In bf16 and fp16 with a supported head width the tensor-core
// kernels run (attention_backward_mma.h, on a Hopper attention_backward_hopper.cu): one block per
// tile of 128 rows and head. A joint backward adds dq up in turns by key rows instead, in the
// kernel of dk and dv. Otherwise the plain kernels below: one block per row and head.
#include "device/cuda/stream.h"
#include "kernels/cuda/attention_backward_hopper.h"
#include "kernels/cuda/attention_backward_joint_hopper.h"
#include "kernels/cuda/attention_backward_joint_mma.h"
#include "kernels/cuda/attention_backward_mma.h"
#include "kernels/cuda/attention_delta.h"
#include "kernels/cuda/attention_plain.h"
#include "kernels/cuda/launchers.h"

namespace facet::cuda {
namespace {

using plain::kThreads;

// The statistics of the query in a (query, key) pair.
struct QueryStatistics {
  float lse, delta;
};
struct PairGradient {
  float p, ds;  // P and scale P (dP - delta)
};
template <typename Q, typename K, typename D>
GPU_DEVICE PairGradient pair_gradient(const Q* q_E, const K* k_E, const D* dout_E, const K* v_E,
                                      const QueryStatistics& query, const AttentionRange& range,
                                      const AttentionShape& shape) {
  const float score = range.is_mean ? 0.0f : shape.scale * plain::dot(q_E, k_E, shape.width);
  const float p = expf(score - query.lse);
  return {p, shape.scale * p * (plain::dot(dout_E, v_E, shape.width) - query.delta)};
}

// dq of one row: the sum over the keys that it sees.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    plain_dq_kernel(TurnedRows<T> dq_NqD, AttentionInputs<T> x, AttentionSaved<T> saved,
                    AttentionLists lists, AttentionShape shape) {
  const AttentionTile tile = query_tile(lists, blockIdx.x / kTileRows);
  const int i = static_cast<int>(blockIdx.x) % kTileRows;
  if (i >= tile.num_rows) return;
  const int head = static_cast<int>(blockIdx.y), width = shape.width;
  const int64_t row = tile.row_begin + i, at = int64_t{head} * width;
  const int64_t kv_at = int64_t{head / shape.group()} * width;

  gpu::SharedArrays arrays;
  float* q_E = arrays.take<float>(static_cast<size_t>(width));
  float* dout_E = arrays.take<float>(static_cast<size_t>(width));
  float* dq_E = arrays.take<float>(static_cast<size_t>(width));
  float* weights = arrays.take<float>(kThreads);
  plain::load_row(q_E, x.q_NqD.row(row) + at, width);
  plain::load_row(dout_E, saved.dout_NqD.row(row) + at, width);
  plain::fill_row(dq_E, 0, width);
  __syncthreads();

  for (int r = 0; r < tile.num_ranges; ++r) {
    const AttentionRange range = range_of(lists, tile, r);
    const int visible = bounds_of(lists, range)[i];
    if (visible == 0) continue;
    const int64_t place = shape.statistic(range.slot, head, row);
    const QueryStatistics query{saved.lse_SHN[place], saved.delta_SHN[place]};
    for (int first = plain::hidden_keys(lists, range, i); first < visible; first += kThreads) {
      const int j = first + static_cast<int>(threadIdx.x);
      if (j < visible)
        weights[threadIdx.x] =
            pair_gradient(q_E, x.k_NkD.row(range.begin + j) + kv_at, dout_E,
                          x.v_NkD.row(range.begin + j) + kv_at, query, range, shape)
                .ds;
      __syncthreads();
      plain::add_weighted_rows(dq_E, 1, weights, min(kThreads, visible - first), width,
                               [&](int n) { return x.k_NkD.row(range.begin + first + n) + kv_at; });
      __syncthreads();  // the weights have been read
    }
  }
  plain::store_turned_row(dq_NqD.row(row) + at, dq_E, width, dq_NqD.angles(row));
}

// dk and dv of one row: sums over the query heads that use it and the queries that see it.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    plain_dkv_kernel(TurnedRows<T> dk_NkD, Rows<T> dv_NkD, AttentionInputs<T> x,
                     AttentionSaved<T> saved, AttentionLists lists, AttentionShape shape) {
  const AttentionTile tile = key_tile(lists, blockIdx.x / kTileRows);
  const int i = static_cast<int>(blockIdx.x) % kTileRows;
  if (i >= tile.num_rows) return;
  const int kv_head = static_cast<int>(blockIdx.y), width = shape.width;
  const int64_t row = tile.row_begin + i, kv_at = int64_t{kv_head} * width;

  gpu::SharedArrays arrays;
  float* k_E = arrays.take<float>(static_cast<size_t>(width));
  float* v_E = arrays.take<float>(static_cast<size_t>(width));
  float* dk_E = arrays.take<float>(static_cast<size_t>(width));
  float* dv_E = arrays.take<float>(static_cast<size_t>(width));
  float* p_Q = arrays.take<float>(kThreads);
  float* ds_Q = arrays.take<float>(kThreads);
  plain::load_row(k_E, x.k_NkD.row(row) + kv_at, width);
  plain::load_row(v_E, x.v_NkD.row(row) + kv_at, width);
  plain::fill_row(dk_E, 0, width);
  plain::fill_row(dv_E, 0, width);
  __syncthreads();

  for (int h = 0; h < shape.group(); ++h) {
    const int head = kv_head * shape.group() + h;
    const int64_t at = int64_t{head} * width;
    if (const int query = self_query(lists, row); query >= 0)
      plain::add_row(dv_E, saved.dout_NqD.row(query) + at, width);
    for (int r = 0; r < tile.num_ranges; ++r) {
      const AttentionRange range = range_of(lists, tile, r);
      const int position = bounds_of(lists, range)[i];
      const int32_t* visible = visible_of(lists, range);
      for (int first = 0; first < range.count; first += kThreads) {
        const int j = first + static_cast<int>(threadIdx.x);
        PairGradient pair{0, 0};
        if (j < range.count && position < visible[j]) {
          const int64_t place = shape.statistic(range.slot, head, range.begin + j);
          const QueryStatistics query{saved.lse_SHN[place], saved.delta_SHN[place]};
          pair = pair_gradient(x.q_NqD.row(range.begin + j) + at, k_E,
                               saved.dout_NqD.row(range.begin + j) + at, v_E, query, range, shape);
        }
        if (range.is_window && j < range.count && position < hidden_of(lists, range)[j])
          pair = {0, 0};
        p_Q[threadIdx.x] = pair.p;
        ds_Q[threadIdx.x] = pair.ds;
        __syncthreads();
        const int count = min(kThreads, range.count - first);
        plain::add_weighted_rows(dv_E, 1, p_Q, count, width, [&](int n) {
          return saved.dout_NqD.row(range.begin + first + n) + at;
        });
        plain::add_weighted_rows(dk_E, 1, ds_Q, count, width,
                                 [&](int n) { return x.q_NqD.row(range.begin + first + n) + at; });
        __syncthreads();  // the weights have been read
      }
    }
  }
  plain::store_row(dv_NkD.row(row) + kv_at, dv_E, width);
  plain::store_turned_row(dk_NkD.row(row) + kv_at, dk_E, width, dk_NkD.angles(row));
}

template <typename T>
void plain_backward(const AttentionGradients<T>& dx, const AttentionInputs<T>& x,
                    const AttentionSaved<T>& saved, const AttentionLists& lists,
                    const AttentionShape& shape, BackwardStreams streams) {
  const size_t row_bytes = (static_cast<size_t>(shape.width) * sizeof(float) + 15) / 16 * 16;
  if (lists.num_key_tiles > 0)
    gpu::launch(streams.dkv,
                {.grid = plain::grid_of(lists.num_key_tiles, shape.kv_heads),
                 .block = kThreads,
                 .shared_bytes = 4 * row_bytes + 2 * kThreads * sizeof(float)},
                plain_dkv_kernel<T>, dx.dk_NkD, dx.dv_NkD, x, saved, lists, shape);
  if (lists.num_query_tiles > 0)
    gpu::launch(streams.dq,
                {.grid = plain::grid_of(lists.num_query_tiles, shape.heads),
                 .block = kThreads,
                 .shared_bytes = 3 * row_bytes + kThreads * sizeof(float)},
                plain_dq_kernel<T>, dx.dq_NqD, x, saved, lists, shape);
}

int64_t blocks_of(int64_t queries) { return (queries + kStepRows - 1) / kStepRows; }

// Its counters are 0 from here on.
JointSums joint_sums(const JointWorkspace& workspace, const AttentionShape& shape,
                     cudaStream_t stream) {
  const int64_t counters = attention_joint_counters(shape.num_queries, shape.heads);
  check_cuda(cudaMemsetAsync(workspace.counters, 0, static_cast<size_t>(counters) * sizeof(int32_t),
                             stream),
             "cannot clear the counters of attention");
  return {workspace.sums, workspace.counters + 1, workspace.counters};
}

template <typename T>
TurnedRows<T> turned_rows(const Operand& x, const Angles& angles) {
  return {rows_of<T>(x), rows_of<const float>(angles.cos_NE), rows_of<const float>(angles.sin_NE)};
}

// Returns false if the kernels for Hopper are not built or do not take the call.
template <typename T>
bool hopper_backward(const AttentionGradients<T>& dx, const AttentionInputs<T>& x,
                     const AttentionSaved<T>& saved, const AttentionLists& lists,
                     const AttentionShape& shape, RowAccess access, BackwardStreams streams,
                     const JointWorkspace& joint) {
  if constexpr (sizeof(T) == 2 && hopper::kIsBuilt)
    if (hopper::takes(lists, shape, access)) {
      if (joint.sums)
        hopper::joint_backward(dx, x, saved, lists, shape, joint_sums(joint, shape, streams.dq),
                               streams.dq);
      else
        hopper::backward(dx, x, saved, lists, shape, streams);
      return true;
    }
  return false;
}

// Returns false if the tensor-core kernels do not support the call.
template <typename T>
bool mma_backward(const AttentionGradients<T>& dx, const AttentionInputs<T>& x,
                  const AttentionSaved<T>& saved, const AttentionLists& lists,
                  const AttentionShape& shape, RowAccess access, BackwardStreams streams,
                  const JointWorkspace& joint) {
  if (!attention_backward_fits(shape.width)) return false;
  if constexpr (sizeof(T) == 2) {
    if (joint.sums && joint_attention_takes(lists, shape.width) && access == RowAccess::kPacked) {
      mma::joint_backward(dx, x, saved, lists, shape, joint_sums(joint, shape, streams.dq),
                          streams.dq);
      return true;
    }
    return mma::with_width(shape.width, access, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      if (lists.num_key_tiles > 0)
        gpu::launch(
            streams.dkv,
            {.grid = mma::grid_of(lists.num_key_tiles, shape.kv_heads),
             .block = mma::kBackwardThreads,
             .shared_bytes = mma::DkvTiles<kWidth, T, mma::WeightExchange>::bytes()},
            lists.has_windows ? mma::dkv_window_kernel<kWidth, T> : mma::dkv_kernel<kWidth, T>,
            dx.dk_NkD, dx.dv_NkD, x, saved, lists, shape);
      if (lists.num_query_tiles > 0)
        gpu::launch(
            streams.dq,
            {.grid = mma::grid_of(lists.num_query_tiles, shape.heads),
             .block = mma::kBackwardThreads,
             .shared_bytes = mma::DqTiles<kWidth, T>::bytes()},
            lists.has_windows ? mma::dq_window_kernel<kWidth, T> : mma::dq_kernel<kWidth, T>,
            dx.dq_NqD, x, saved, lists, shape);
    });
  } else {
    return false;
  }
}

// That a block of the current GPU may have; 0 if that is unknown.
size_t most_shared_bytes() {
  int device = 0, bytes = 0;
  const bool told = cudaGetDevice(&device) == cudaSuccess &&
                    cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                           device) == cudaSuccess;
  return told ? static_cast<size_t>(bytes) : 0;
}

}  // namespace

bool attention_backward_fits(int64_t width) {
  bool fits = false;
  mma::with_width(static_cast<int>(width), RowAccess::kPacked, [&](auto constant) {
    fits = mma::kBackwardSharedBytes<decltype(constant)::value> <= most_shared_bytes();
  });
  return fits;
}

bool has_joint_attention() { return mma::kJointSharedBytes <= most_shared_bytes(); }
bool joint_attention_takes(const AttentionLists& lists, int64_t width) {
  static_assert(hopper::kHeadWidth == mma::kJointWidth);
  return width == mma::kJointWidth && lists.joint_tiles > 0;
}
int64_t attention_joint_sums(int64_t queries, int64_t heads) {
  return heads * blocks_of(queries) * kStepRows * mma::kJointWidth;
}
int64_t attention_joint_counters(int64_t queries, int64_t heads) {
  return 1 + heads * blocks_of(queries);
}

void attention_backward(Operand dq_NqD, Operand dk_NkD, Operand dv_NkD, Operand dout_NqD,
                        Operand q_NqD, Operand k_NkD, Operand v_NkD, Operand out_NqD,
                        Operand out_part_NqD, const float* lse_SHN, float* delta_SHN,
                        const Angles& q_angles, const Angles& k_angles, const AttentionLists& lists,
                        int64_t heads, int64_t kv_heads, float scale, SideStream& side,
                        cudaStream_t stream, JointWorkspace joint) {
  const AttentionShape shape = shape_of(q_NqD, heads, kv_heads, scale);
  with_type(q_NqD.dtype, [&](auto zero) {
    using T = decltype(zero);
    const AttentionGradients<T> dx{turned_rows<T>(dq_NqD, q_angles),
                                   turned_rows<T>(dk_NkD, k_angles), rows_of<T>(dv_NkD)};
    const AttentionInputs<T> x{rows_of<const T>(q_NqD), rows_of<const T>(k_NkD),
                               rows_of<const T>(v_NkD)};
    const AttentionSaved<T> saved{rows_of<const T>(dout_NqD), rows_of<const T>(out_NqD),
                                  rows_of<const T>(out_part_NqD), lse_SHN, delta_SHN};
    compute_delta(saved, lists, shape, delta_access({dout_NqD, out_NqD, out_part_NqD}, shape.width),
                  stream);
    side.follow(stream);
    const BackwardStreams streams{.dq = stream, .dkv = side};
    const RowAccess access =
        row_access({dq_NqD, dk_NkD, dv_NkD, dout_NqD, q_NqD, k_NkD, v_NkD, q_angles.cos_NE,
                    q_angles.sin_NE, k_angles.cos_NE, k_angles.sin_NE});
    if (!hopper_backward(dx, x, saved, lists, shape, access, streams, joint) &&
        !mma_backward(dx, x, saved, lists, shape, access, streams, joint))
      plain_backward(dx, x, saved, lists, shape, streams);
    side.precede(stream);
  });
}

}  // namespace facet::cuda
