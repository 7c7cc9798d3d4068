// The work list of attention in decoding (attention_decode.cu): of a plan whose samples have few
// query rows, the keys of every part, cut into stretches. Built on the host once per forward and
// copied to the device as one array. How a sample is cut depends on the sample alone, so its
// results do not on what is computed beside it.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/attention_plan.h"

namespace facet::cuda {

constexpr int kMostDecodeQueries = 8;  // of a sample
constexpr int kLeastStretch = 128;     // keys, but for parts that have fewer
constexpr int kMostStretches = 128;    // of a part

// A part of the plan. Each of its stretches has a partial result for each of its queries: that of
// query i in stretch s is number partial_begin + s * num_queries + i.
struct DecodePart {
  int32_t slot, is_mean;
  int32_t first_query, num_queries;  // rows of q and out
  int32_t visible_begin;             // of its queries in visible_keys and hidden_keys
  int32_t num_stretches, partial_begin;
};

// Keys [first, end) of a part's list of keys.
struct DecodeStretch {
  int32_t part;
  int32_t first, end;
  int32_t range, before;  // the key range with its first key; how many of the part's lie before it
  int32_t partial;        // of the part's first query
};

// A row of q and out: its part in either slot, or -1, and the row of v that is added to it, or -1.
struct DecodeRow {
  int32_t row, self;
  int32_t part[2];
};

// The list in device memory: offsets of its sections.
struct DecodeLists {
  const int32_t* data = nullptr;
  int32_t num_slots = 1;
  int32_t num_stretches = 0, num_rows = 0, num_partials = 0;
  int32_t most_queries = 0;  // of a part
  int32_t has_windows = 0;
  int32_t stretches = 0, parts = 0, rows = 0;
  int32_t key_ranges = 0, visible_keys = 0, hidden_keys = 0;  // as in the plan
};

// Whether it is a plan of decoding with at most kMostDecodeQueries rows a sample.
bool has_few_queries(const AttentionPlan& plan);

class DecodeWork {
 public:
  // Builds the list of another plan, one with few queries, for a GPU of so many multiprocessors.
  // Allocates nothing once it has grown to the largest.
  void make(const AttentionPlan& plan, int multiprocessors);

  const std::vector<int32_t>& words() const { return words_; }
  // The list, once words() are copied to `device_words`.
  DecodeLists lists(const int32_t* device_words) const;

 private:
  void add_sample(const AttentionPlan& plan, const AttentionSample& sample);
  void add_part(const AttentionPlan& plan, const AttentionPart& part, int most_stretches);

  std::vector<DecodePart> parts_;
  std::vector<DecodeStretch> stretches_;
  std::vector<DecodeRow> rows_;
  std::vector<int32_t> words_;
  DecodeLists lists_;
};

}  // namespace facet::cuda
