// Attention of sequences whose keys and values lie in one pool of rows, each sequence's in several
// places there (decoding with a paged cache): the plans of single sequences become one plan.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/attention_plan.h"

namespace facet {

class PoolPlanWriter {
 public:
  // Begins a plan without samples over the first `pool_rows` rows of k and v, at least one.
  void begin(AttentionPlan& plan, int64_t pool_rows, int num_slots);
  // Adds the one sample of `sample`, a plan with the sequence's own row numbers. Its queries follow
  // those of the samples before; its key row r is the r-th row of `places`, which may be more.
  // Samples may share places. Either all samples have windows or none has.
  void add(AttentionPlan& plan, const AttentionPlan& sample, std::span<const RowRange> places);

 private:
  void add_key_ranges(AttentionPlan& plan, const AttentionPlan& sample,
                      std::span<const RowRange> places);

  std::vector<int64_t> range_begin_;  // of each range of the sample, its first one in the plan
};

}  // namespace facet
