#include "ops/pool_plan.h"

#include <algorithm>

#include "base/check.h"

namespace facet {
namespace {

// Calls body(rows of the pool, how many rows of `range` before them) for the pieces of a range of a
// sequence's rows.
template <typename Body>
void for_places(const RowRange& range, std::span<const RowRange> places, const Body& body) {
  int32_t before = 0;  // rows of earlier places
  int32_t done = 0;
  for (const RowRange& place : places) {
    if (done == range.count) return;
    const int32_t skipped = range.first + done - before;
    if (skipped < place.count) {
      const int32_t count = std::min(range.count - done, place.count - skipped);
      body(RowRange{place.first + skipped, count}, done);
      done += count;
    }
    before += place.count;
  }
  ASSERT(done == range.count, "a sequence has places for {} rows, row {} is asked for", before,
         range.end() - 1);
}

}  // namespace

void PoolPlanWriter::begin(AttentionPlan& plan, int64_t pool_rows, int num_slots) {
  ASSERT(pool_rows > 0, "a pool of {} rows", pool_rows);
  plan.clear();
  plan.num_slots = num_slots;
  plan.pool_rows = pool_rows;
  plan.some_queries = true;
}

void PoolPlanWriter::add_key_ranges(AttentionPlan& plan, const AttentionPlan& sample,
                                    std::span<const RowRange> places) {
  range_begin_.clear();
  for (const RowRange& range : sample.key_ranges) {
    range_begin_.push_back(static_cast<int64_t>(plan.key_ranges.size()));
    for_places(range, places,
               [&](const RowRange& rows, int32_t) { plan.key_ranges.push_back(rows); });
  }
}

void PoolPlanWriter::add(AttentionPlan& plan, const AttentionPlan& sample,
                         std::span<const RowRange> places) {
  ASSERT(sample.samples.size() == 1 && sample.num_slots == plan.num_slots,
         "{} samples with {} slots join a plan with {}", sample.samples.size(), sample.num_slots,
         plan.num_slots);
  AttentionSample added = sample.samples[0];
  const auto visible_begin = static_cast<int64_t>(plan.visible_keys.size());
  const int64_t query_begin = plan.samples.empty() ? 0
                                                   : plan.samples.back().query_row_begin +
                                                         plan.samples.back().num_query_rows;
  added.part_begin = static_cast<int64_t>(plan.parts.size());
  added.self_begin = static_cast<int64_t>(plan.self_rows.size());
  added.query_row_begin = query_begin;
  added.key_row_begin = added.num_key_rows = 0;
  add_key_ranges(plan, sample, places);
  for (AttentionPart part : sample.parts) {
    part.key_begin = range_begin_[static_cast<size_t>(part.key_begin)];
    part.visible_begin += visible_begin;
    part.queries.first += static_cast<int32_t>(query_begin);
    plan.parts.push_back(part);
  }
  for (const SelfRows& self : sample.self_rows)
    for_places({self.key, self.count}, places, [&](const RowRange& rows, int32_t before) {
      const auto query = static_cast<int32_t>(query_begin) + self.query + before;
      plan.self_rows.push_back({query, rows.first, rows.count});
    });
  added.num_self = static_cast<int64_t>(plan.self_rows.size()) - added.self_begin;
  plan.visible_keys.insert(plan.visible_keys.end(), sample.visible_keys.begin(),
                           sample.visible_keys.end());
  plan.hidden_keys.insert(plan.hidden_keys.end(), sample.hidden_keys.begin(),
                          sample.hidden_keys.end());
  plan.samples.push_back(added);
}

}  // namespace facet
