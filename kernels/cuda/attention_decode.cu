// Attention in decoding over a work list (decode_work.h): formulas and results are those of
// attention_forward.cu, for samples with few query rows and many keys. A block takes a stretch of a
// part's keys, for all query heads that share a head of keys, and writes of each row the largest
// score, the sum of weights and the weighted sum of values, in fp32; a second launch combines the
// stretches in their order (flash-decoding: Dao, Haziza, Massa, Sizov 2023). So a short batch fills
// the GPU, and keys and values are read once for all rows of a block.
#include "kernels/cuda/attention_decode_mma.h"
#include "kernels/cuda/attention_decode_plain.h"
#include "kernels/cuda/launchers.h"

namespace facet::cuda {
namespace decode {
namespace {

// ---- the second launch: a block for every row of out and head, a thread for every column

// The softmax of a row's part: its weights of the stretches, divided by the sum of all, and lse.
GPU_DEVICE float weigh_stretches(float* weights, const Partials& partials, const DecodePart& part,
                                 int first, int head, const AttentionShape& shape) {
  const int s = static_cast<int>(threadIdx.x);
  const bool present = s < part.num_stretches;
  const int64_t partial = first + int64_t{s} * part.num_queries;
  const float mine = present ? partials.max(partial, head) : -INFINITY;
  const float max = gpu::block_max<kThreads>(mine);
  const float weight = gpu::fast_exp2((mine - max) * shape.factor);
  const float sum = gpu::block_sum<kThreads>(present ? weight * partials.sum(partial, head) : 0.0f);
  weights[s] = weight / sum;
  __syncthreads();
  return max * shape.scale + logf(sum);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    combine_kernel(AttentionOutputs<T> y, Rows<const T> v_NkD, Partials partials, DecodeLists lists,
                   AttentionShape shape) {
  GPU_SHARED(float, weights, [kMostStretches]);
  const DecodeRow& row = section<DecodeRow>(lists, lists.rows)[blockIdx.x];
  const int head = static_cast<int>(blockIdx.y), c = static_cast<int>(threadIdx.x);
  const bool has_column = c < shape.width;
  const int64_t at = int64_t{head} * shape.width + c;
  float out = 0;
  if (has_column && row.self >= 0)
    out = gpu::to_float(v_NkD.row(row.self)[int64_t{shape.kv_head(head)} * shape.width + c]);
  float kept = 0, size_of_kept = 0;  // what out_part is to hold
  int slot_of_kept = -1;
  for (int slot = 0; slot < lists.num_slots; ++slot) {
    if (row.part[slot] < 0) continue;
    const DecodePart part = part_of(lists, row.part[slot]);
    const int first = part.partial_begin + row.row - part.first_query;
    const float lse = weigh_stretches(weights, partials, part, first, head, shape);
    if (c == 0) y.lse_SHN[shape.statistic(slot, head, row.row)] = lse;
    float value = 0;
    if (has_column) {
#pragma unroll 4
      for (int s = 0; s < part.num_stretches; ++s)
        value += weights[s] * partials.out_E(first + int64_t{s} * part.num_queries, head)[c];
    }
    out += value;
    if (lists.num_slots < 2) continue;
    const float size = gpu::block_sum<kThreads>(value * value);  // all have read the weights
    if (slot_of_kept >= 0 && size >= size_of_kept) continue;
    kept = value;
    size_of_kept = size;
    slot_of_kept = slot;
  }
  if (has_column) y.out_NqD.row(row.row)[at] = gpu::from_float<T>(out);
  if (lists.num_slots < 2) return;
  if (has_column) y.out_part_NqD.row(row.row)[at] = gpu::from_float<T>(kept);
  if (c == 0)
    y.lse_SHN[shape.statistic(kSlotOfPart, head, row.row)] = static_cast<float>(slot_of_kept);
}

}  // namespace
}  // namespace decode

bool attention_decode_takes(Operand q_NqD, Operand k_NkD, Operand v_NkD, int64_t heads) {
  const int64_t width = q_NqD.cols / heads;
  return width <= decode::kMostWidth && width * size_of(q_NqD.dtype) % 16 == 0 &&
         row_access({q_NqD, k_NkD, v_NkD}) == RowAccess::kPacked;
}

int64_t attention_decode_floats(const DecodeLists& lists, int64_t heads, int64_t width) {
  return lists.num_partials * heads * (width + 2);
}

void attention_decode(Operand out_NqD, float* lse_SHN, Operand out_part_NqD, Operand q_NqD,
                      Operand k_NkD, Operand v_NkD, const DecodeLists& lists, float* workspace,
                      int64_t heads, int64_t kv_heads, float scale, cudaStream_t stream) {
  if (lists.num_rows == 0) return;
  const AttentionShape shape = shape_of(q_NqD, heads, kv_heads, scale);
  const decode::Partials partials{workspace, shape.heads, shape.width};
  with_type(q_NqD.dtype, [&](auto zero) {
    using T = decltype(zero);
    const AttentionOutputs<T> y{rows_of<T>(out_NqD), rows_of<T>(out_part_NqD), lse_SHN};
    const AttentionInputs<T> x{rows_of<const T>(q_NqD), rows_of<const T>(k_NkD),
                               rows_of<const T>(v_NkD)};
    if (lists.num_stretches > 0) {
      if (shape.width <= decode::kMostWidth / 2)
        decode::run<decode::kMostWidth / 2>(partials, x, lists, shape, stream);
      else
        decode::run<decode::kMostWidth>(partials, x, lists, shape, stream);
    }
    const dim3 grid(static_cast<unsigned>(lists.num_rows), static_cast<unsigned>(shape.heads));
    gpu::launch(stream, {.grid = grid, .block = decode::kThreads}, decode::combine_kernel<T>, y,
                x.v_NkD, partials, lists, shape);
  });
}

}  // namespace facet::cuda
