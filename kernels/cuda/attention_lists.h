// Shared by the attention kernels: the operands of a call and access to its work list.
#pragma once

#include "kernels/cuda/attention_work.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda {

constexpr int kSlotOfPart = 2;  // the statistic after those of two slots: whose part out_part holds
constexpr float kLog2OfE = 1.4426950408889634f;

struct AttentionShape {
  int32_t heads, kv_heads, width;  // H, G, E
  int64_t num_queries;             // Nq
  float scale;
  float factor;  // of q.k in the exponent of 2; an operand in constant memory takes no register

  GPU_DEVICE int group() const { return heads / kv_heads; }
  // The key/value head of a query head, without group(): kernels would keep it in a register.
  GPU_DEVICE int kv_head(int head) const { return head * kv_heads / heads; }
  // The index of a row in lse and delta (slots,H,Nq).
  GPU_DEVICE int64_t statistic(int slot, int head, int64_t row) const {
    return (int64_t{slot} * heads + head) * num_queries + row;
  }
};

inline AttentionShape shape_of(const Operand& q, int64_t heads, int64_t kv_heads, float scale) {
  return {static_cast<int32_t>(heads),
          static_cast<int32_t>(kv_heads),
          static_cast<int32_t>(q.cols / heads),
          q.rows,
          scale,
          scale * kLog2OfE};
}

GPU_DEVICE AttentionTile query_tile(const AttentionLists& lists, unsigned i) {
  return reinterpret_cast<const AttentionTile*>(lists.data + lists.query_tiles)[i];
}
GPU_DEVICE AttentionTile key_tile(const AttentionLists& lists, unsigned i) {
  return reinterpret_cast<const AttentionTile*>(lists.data + lists.key_tiles)[i];
}
GPU_DEVICE JointTile joint_tile(const AttentionLists& lists, int i) {
  return reinterpret_cast<const JointTile*>(lists.data + lists.joint_tiles)[i];
}
GPU_DEVICE AttentionRange range_of(const AttentionLists& lists, const AttentionTile& tile, int i) {
  return reinterpret_cast<const AttentionRange*>(lists.data + lists.ranges)[tile.range_begin + i];
}
// Whether the softmax of range i of a query tile goes on in the next range.
GPU_DEVICE bool goes_on(const AttentionLists& lists, const AttentionTile& tile, int i) {
  return i + 1 < tile.num_ranges && range_of(lists, tile, i + 1).continues;
}
GPU_DEVICE const int32_t* bounds_of(const AttentionLists& lists, const AttentionRange& range) {
  return lists.data + lists.bounds + range.bound_begin;
}
GPU_DEVICE const int32_t* visible_of(const AttentionLists& lists, const AttentionRange& range) {
  return lists.data + lists.visible_keys + range.visible_begin;
}

// In a range with windows: the keys at the front of the list that each query of a key tile's range
// does not see, and the same for the rows of a query tile.
GPU_DEVICE const int32_t* hidden_of(const AttentionLists& lists, const AttentionRange& range) {
  return lists.data + lists.hidden_keys + range.visible_begin;
}
GPU_DEVICE const int32_t* hidden_of_rows(const AttentionLists& lists, const AttentionRange& range) {
  return bounds_of(lists, range) + kTileRows;
}

// The row of v that is added to this row of out, or -1.
GPU_DEVICE int self_row(const AttentionLists& lists, int64_t row) {
  return lists.data[lists.self_rows + row];
}
// The row of out that this row of v is added to, or -1.
GPU_DEVICE int self_query(const AttentionLists& lists, int64_t row) {
  return lists.data[lists.self_queries + row];
}

template <typename T>
struct AttentionOutputs {
  Rows<T> out_NqD, out_part_NqD;  // out_part only with two slots
  float* lse_SHN;
};
template <typename T>
struct AttentionInputs {
  Rows<const T> q_NqD, k_NkD, v_NkD;
};
// The angles of one row, E/2 of each; null if there are none.
struct RowAngles {
  const float *cos_E, *sin_E;
};
// Rows whose heads are turned back where they are stored (rope_backward), if there are angles.
template <typename T>
struct TurnedRows {
  Rows<T> rows;
  Rows<const float> cos_NE, sin_NE;  // null, with a stride of 0, if there are none

  GPU_DEVICE T* row(int64_t r) const { return rows.row(r); }
  GPU_DEVICE RowAngles angles(int64_t r) const { return {cos_NE.row(r), sin_NE.row(r)}; }
};
template <typename T>
struct AttentionGradients {
  TurnedRows<T> dq_NqD, dk_NkD;
  Rows<T> dv_NkD;
};
// What a joint backward adds dq up in: of each head and block of kStepRows rows of q a tile of fp32
// sums, and how many steps have been added to it. And how many tiles of keys blocks have taken.
struct JointSums {
  float* dq = nullptr;
  int32_t *counters = nullptr, *taken = nullptr;
};
// What runs where in backward: neither dq nor dk and dv wait for the other.
struct BackwardStreams {
  cudaStream_t dq, dkv;
};
template <typename T>
struct AttentionSaved {
  Rows<const T> dout_NqD, out_NqD, out_part_NqD;
  const float* lse_SHN;
  float* delta_SHN;
};

}  // namespace facet::cuda
