// How a flat buffer is partitioned: one contiguous slice per rank (its partition in DeepSpeed's
// terms, its shard in FSDP's). Pure arithmetic.
#pragma once

#include <cstdint>

namespace facet {

struct Slice {
  int64_t begin = 0;
  int64_t count = 0;
};

// The size of every slice is a multiple of this many elements: 64 bytes of fp32.
constexpr int64_t kSliceGranule = 16;

// Elements a unit's trained buffer is padded to a multiple of, so that all ranks' slices are equal.
constexpr int64_t partition_padding(int ranks) { return ranks * kSliceGranule; }

// Rank r's slice of `elements` elements, a multiple of partition_padding(ranks).
constexpr Slice slice_of_rank(int64_t elements, int rank, int ranks) {
  const int64_t count = elements / ranks;
  return {rank * count, count};
}

}  // namespace facet
