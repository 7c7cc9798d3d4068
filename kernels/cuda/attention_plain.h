// Shared by the plain attention kernels: one block per row and head, for any element type and head
// width, in fp32. They are the reference for the tensor-core kernels and run what those do not
// support.
#pragma once

#include "kernels/cuda/attention_lists.h"
#include "kernels/cuda/rotation.h"

namespace facet::cuda::plain {

constexpr int kThreads = 128;

// One row of a head, in fp32, in shared memory; channel c belongs to thread c % kThreads.
template <typename T>
GPU_DEVICE void load_row(float* to_E, const T* from_E, int width) {
  for (int c = static_cast<int>(threadIdx.x); c < width; c += kThreads)
    to_E[c] = gpu::to_float(from_E[c]);
}
GPU_DEVICE void fill_row(float* to_E, float value, int width) {
  for (int c = static_cast<int>(threadIdx.x); c < width; c += kThreads) to_E[c] = value;
}
template <typename T>
GPU_DEVICE void add_row(float* to_E, const T* from_E, int width) {
  for (int c = static_cast<int>(threadIdx.x); c < width; c += kThreads)
    to_E[c] += gpu::to_float(from_E[c]);
}
template <typename T>
GPU_DEVICE void store_row(T* to_E, const float* from_E, int width) {
  for (int c = static_cast<int>(threadIdx.x); c < width; c += kThreads)
    to_E[c] = gpu::from_float<T>(from_E[c]);
}

// Rounds a row that the block has stored, turns it back by its angles, if there are any, and rounds
// it again.
template <typename T>
GPU_DEVICE void store_turned_row(T* to_E, const float* from_E, int width, const RowAngles& angles) {
  if (angles.cos_E == nullptr) return store_row(to_E, from_E, width);
  const int half = width / 2;
  const auto rounded = [&](int c) { return gpu::to_float(gpu::from_float<T>(from_E[c])); };
  for (int c = static_cast<int>(threadIdx.x); c < half; c += kThreads) {
    const Turned pair = turned(rounded(c), rounded(c + half), angles.cos_E[c], -angles.sin_E[c]);
    to_E[c] = gpu::from_float<T>(pair.low);
    to_E[c + half] = gpu::from_float<T>(pair.high);
  }
}

template <typename A, typename B>
GPU_DEVICE float dot(const A* a_E, const B* b_E, int width) {
  float sum = 0;
  for (int c = 0; c < width; ++c) sum += gpu::to_float(a_E[c]) * gpu::to_float(b_E[c]);
  return sum;
}

// to_E = factor to_E + sum of weights[j] row(j) over `count` rows.
template <typename Row>
GPU_DEVICE void add_weighted_rows(float* to_E, float factor, const float* weights, int count,
                                  int width, const Row& row) {
  for (int c = static_cast<int>(threadIdx.x); c < width; c += kThreads) {
    float sum = factor * to_E[c];
    for (int j = 0; j < count; ++j) sum += weights[j] * gpu::to_float(row(j)[c]);
    to_E[c] = sum;
  }
}

// The keys at the front of the range that row i of a query tile does not see.
GPU_DEVICE int hidden_keys(const AttentionLists& lists, const AttentionRange& range, int i) {
  return range.is_window ? hidden_of_rows(lists, range)[i] : 0;
}

inline dim3 grid_of(int32_t tiles, int64_t heads) {
  return {static_cast<unsigned>(tiles * kTileRows), static_cast<unsigned>(heads)};
}

}  // namespace facet::cuda::plain
