// Plans of attention without lists: every sample is a rectangle of queries and keys, all of which
// see each other, or a causal triangle. This is what attention of a library can compute.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "ops/attention_plan.h"

namespace facet::cuda {

// Samples of one shape whose rows follow each other, of q and out and of k and v.
struct DenseAttention {
  int64_t samples = 0;
  int64_t queries = 0, keys = 0;       // of each
  bool causal = false;                 // query i sees keys j <= i, else all
  int64_t query_row = 0, key_row = 0;  // of the first sample

  auto operator<=>(const DenseAttention&) const = default;
};

// The samples of a plan, in their order, neighbours of one shape together. Throws Error(kConfig)
// for a plan of another kind: with images apart from text (MMCA), with a sliding window, or with
// queries that see only some of the keys.
std::vector<DenseAttention> dense_attention_of(const AttentionPlan& plan);

}  // namespace facet::cuda
