// Lengths of a unit's flat buffers as they are partitioned, and ranges of flat buffers.
#pragma once

#include <algorithm>
#include <cstdint>

#include "device/tensor.h"
#include "nn/param_table.h"
#include "optim/partition.h"

namespace facet {

// A range of a flat buffer as a vector.
inline Tensor flat_range(const Tensor& flat, int64_t begin, int64_t count) {
  return flat.range(begin, count);
}

inline Tensor flat_range(const Tensor& flat, const Slice& slice) {
  return flat_range(flat, slice.begin, slice.count);
}

// The intersection of two ranges.
inline Slice overlap(const Slice& a, const Slice& b) {
  const int64_t begin = std::max(a.begin, b.begin);
  const int64_t end = std::min(a.begin + a.count, b.begin + b.count);
  return {begin, std::max<int64_t>(0, end - begin)};
}

// Elements of the unit's trained buffer, padding included.
inline int64_t trained_length(const ParamUnit& unit) {
  return unit.trained_values.defined() ? unit.trained_values.numel() : 0;
}

// Elements of the unit's frozen buffer, padded for partitioning.
inline int64_t frozen_length(const ParamUnit& unit, int ranks) {
  const int64_t padding = partition_padding(ranks);
  const int64_t elements = unit.frozen_values.defined() ? unit.frozen_values.numel() : 0;
  return (elements + padding - 1) / padding * padding;
}

}  // namespace facet
