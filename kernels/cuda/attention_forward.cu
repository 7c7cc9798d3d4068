// Forward attention over a work list (attention_work.h): out (Nq,H*E) = the sum, over the parts
// that a row is in, of P V, plus the row's own v for self rows; P = softmax(scale q k') over the
// visible keys, or their mean. Overwrites out and lse (slots,H,Nq), in mean parts the logarithm of
// the number of keys; with two slots also out_part, the smaller of a row's parts, 0 without one,
// and its slot or -1, the third statistic in lse.
//
// In bf16 and fp16 with a supported head width a tensor-core kernel runs: one block per tile of 128
// query rows and query head. On Hopper that is the one of attention_forward_hopper.cu where it
// takes the call, else the one of attention_forward_mma.h. Otherwise the plain kernel below: one
// block per query row and head.
#include "kernels/cuda/attention_forward_hopper.h"
#include "kernels/cuda/attention_forward_mma.h"
#include "kernels/cuda/attention_plain.h"
#include "kernels/cuda/launchers.h"

namespace facet::cuda {
namespace {

using plain::kThreads;

// The running softmax of one row, the same in every thread.
struct RowSoftmax {
  float max = -INFINITY, sum = 0;
};

// One step over up to kThreads keys: thread j's score becomes weights[j], 0 for absent keys.
// Returns the factor that rescales the earlier sums.
GPU_DEVICE float softmax_step(RowSoftmax& softmax, float* weights, float score, bool present) {
  const float max = fmaxf(softmax.max, gpu::block_max<kThreads>(present ? score : -INFINITY));
  const float factor = expf(softmax.max - max);
  const float weight = present ? expf(score - max) : 0.0f;
  weights[threadIdx.x] = weight;
  softmax.sum = softmax.sum * factor + gpu::block_sum<kThreads>(weight);
  softmax.max = max;
  return factor;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    plain_forward_kernel(AttentionOutputs<T> y, AttentionInputs<T> x, AttentionLists lists,
                         AttentionShape shape) {
  const AttentionTile tile = query_tile(lists, blockIdx.x / kTileRows);
  const int i = static_cast<int>(blockIdx.x) % kTileRows;
  if (i >= tile.num_rows) return;
  const int head = static_cast<int>(blockIdx.y), width = shape.width;
  const int64_t row = tile.row_begin + i, at = int64_t{head} * width;
  const int64_t kv_at = int64_t{head / shape.group()} * width;

  gpu::SharedArrays arrays;
  float* q_E = arrays.take<float>(static_cast<size_t>(width));
  float* out_E = arrays.take<float>(static_cast<size_t>(width));
  float* part_E = arrays.take<float>(static_cast<size_t>(width));
  float* weights = arrays.take<float>(kThreads);
  plain::load_row(q_E, x.q_NqD.row(row) + at, width);
  const int self = self_row(lists, row);
  if (self < 0)
    plain::fill_row(out_E, 0, width);
  else
    plain::load_row(out_E, x.v_NkD.row(self) + kv_at, width);
  plain::fill_row(part_E, 0, width);
  __syncthreads();

  float size_of_part = 0;  // of what out_part holds, if slot_of_part is one
  int slot_of_part = -1;
  RowSoftmax softmax;
  for (int r = 0; r < tile.num_ranges; ++r) {
    const AttentionRange range = range_of(lists, tile, r);
    const int visible = bounds_of(lists, range)[i];
    if (visible == 0) continue;
    if (!range.continues) {
      plain::fill_row(part_E, 0, width);
      softmax = RowSoftmax();
    }
    for (int first = plain::hidden_keys(lists, range, i); first < visible; first += kThreads) {
      const int j = first + static_cast<int>(threadIdx.x);
      float score = 0;
      if (j < visible && !range.is_mean)
        score = shape.scale * plain::dot(q_E, x.k_NkD.row(range.begin + j) + kv_at, width);
      const float factor = softmax_step(softmax, weights, score, j < visible);
      plain::add_weighted_rows(part_E, factor, weights, min(kThreads, visible - first), width,
                               [&](int n) { return x.v_NkD.row(range.begin + first + n) + kv_at; });
      // The barriers in the next step's block_max precede the next write to weights.
    }
    if (goes_on(lists, tile, r) && bounds_of(lists, range_of(lists, tile, r + 1))[i] > 0) continue;
    float size = 0;
    for (int c = static_cast<int>(threadIdx.x); c < width; c += kThreads) {
      part_E[c] /= softmax.sum;
      out_E[c] += part_E[c];
      size += part_E[c] * part_E[c];
    }
    if (threadIdx.x == 0)
      y.lse_SHN[shape.statistic(range.slot, head, row)] = softmax.max + logf(softmax.sum);
    if (lists.num_slots < 2) continue;
    size = gpu::block_sum<kThreads>(size);
    if (slot_of_part >= 0 && size >= size_of_part) continue;
    plain::store_row(y.out_part_NqD.row(row) + at, part_E, width);
    size_of_part = size;
    slot_of_part = range.slot;
  }
  plain::store_row(y.out_NqD.row(row) + at, out_E, width);
  if (lists.num_slots < 2) return;
  // part_E is 0 if no part has filled it.
  if (slot_of_part < 0) plain::store_row(y.out_part_NqD.row(row) + at, part_E, width);
  if (threadIdx.x == 0)
    y.lse_SHN[shape.statistic(kSlotOfPart, head, row)] = static_cast<float>(slot_of_part);
}

template <typename T>
void plain_forward(const AttentionOutputs<T>& y, const AttentionInputs<T>& x,
                   const AttentionLists& lists, const AttentionShape& shape, cudaStream_t stream) {
  const size_t row_bytes = (static_cast<size_t>(shape.width) * sizeof(float) + 15) / 16 * 16;
  gpu::launch(stream,
              {.grid = plain::grid_of(lists.num_query_tiles, shape.heads),
               .block = kThreads,
               .shared_bytes = 3 * row_bytes + kThreads * sizeof(float)},
              plain_forward_kernel<T>, y, x, lists, shape);
}

// Returns false if the kernel for Hopper is not built or does not take the call.
template <typename T>
bool hopper_forward(const AttentionOutputs<T>& y, const AttentionInputs<T>& x,
                    const AttentionLists& lists, const AttentionShape& shape, RowAccess access,
                    cudaStream_t stream) {
  if constexpr (sizeof(T) == 2 && hopper::kIsBuilt)
    if (hopper::takes(lists, shape, access)) {
      hopper::forward(y, x, lists, shape, stream);
      return true;
    }
  return false;
}

// Returns false if the tensor-core kernels do not support the call.
template <typename T>
bool mma_forward(const AttentionOutputs<T>& y, const AttentionInputs<T>& x,
                 const AttentionLists& lists, const AttentionShape& shape, RowAccess access,
                 cudaStream_t stream) {
  if constexpr (sizeof(T) == 2)
    return mma::with_width(shape.width, access, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      gpu::launch(stream,
                  {.grid = mma::grid_of(lists.num_query_tiles, shape.heads),
                   .block = mma::kTeamThreads,
                   .shared_bytes = mma::ForwardTiles<kWidth, T>::bytes()},
                  lists.has_windows ? mma::forward_window_kernel<kWidth, T>
                                    : mma::forward_kernel<kWidth, T>,
                  y, x, lists, shape);
    });
  else
    return false;
}

}  // namespace

void attention_forward(Operand out_NqD, float* lse_SHN, Operand out_part_NqD, Operand q_NqD,
                       Operand k_NkD, Operand v_NkD, const AttentionLists& lists, int64_t heads,
                       int64_t kv_heads, float scale, cudaStream_t stream) {
  if (lists.num_query_tiles == 0) return;
  const AttentionShape shape = shape_of(q_NqD, heads, kv_heads, scale);
  with_type(q_NqD.dtype, [&](auto zero) {
    using T = decltype(zero);
    const AttentionOutputs<T> y{rows_of<T>(out_NqD), rows_of<T>(out_part_NqD), lse_SHN};
    const AttentionInputs<T> x{rows_of<const T>(q_NqD), rows_of<const T>(k_NkD),
                               rows_of<const T>(v_NkD)};
    const RowAccess access = row_access({out_NqD, out_part_NqD, q_NqD, k_NkD, v_NkD});
    if (!hopper_forward(y, x, lists, shape, access, stream) &&
        !mma_forward(y, x, lists, shape, access, stream))
      plain_forward(y, x, lists, shape, stream);
  });
}

}  // namespace facet::cuda
