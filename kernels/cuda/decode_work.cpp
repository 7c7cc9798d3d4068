#include "kernels/cuda/decode_work.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "kernels/cuda/list_words.h"

namespace facet::cuda {
namespace {

constexpr int32_t kStretchUnit = 32;  // a page of the cache

int32_t quotient_up(int32_t number, int32_t by) { return (number + by - 1) / by; }

// So many that with 8 heads of keys, as larger decoders have them, a sample with a long cache has
// two blocks for every multiprocessor.
int most_stretches_on(int multiprocessors) {
  return std::clamp(multiprocessors / 4, 1, kMostStretches);
}

// Keys in a stretch of a part with so many; the last may have fewer.
int32_t stretch_of(int32_t keys, int most_stretches) {
  const int32_t stretches = std::clamp(quotient_up(keys, kLeastStretch), 1, most_stretches);
  return quotient_up(quotient_up(keys, stretches), kStretchUnit) * kStretchUnit;
}

}  // namespace

bool has_few_queries(const AttentionPlan& plan) {
  return plan.pool_rows > 0 &&
         std::all_of(plan.samples.begin(), plan.samples.end(), [](const AttentionSample& sample) {
           return sample.num_query_rows <= kMostDecodeQueries;
         });
}

void DecodeWork::make(const AttentionPlan& plan, int multiprocessors) {
  parts_.clear();
  stretches_.clear();
  rows_.clear();
  words_.clear();
  lists_ = {};
  for (const AttentionSample& sample : plan.samples) add_sample(plan, sample);
  for (const AttentionPart& part : plan.parts)
    add_part(plan, part, most_stretches_on(multiprocessors));

  lists_.num_slots = plan.num_slots;
  lists_.has_windows = !plan.hidden_keys.empty();
  lists_.num_stretches = to_int(std::ssize(stretches_));
  lists_.num_rows = to_int(std::ssize(rows_));
  lists_.stretches = append(words_, stretches_);
  lists_.parts = append(words_, parts_);
  lists_.rows = append(words_, rows_);
  lists_.key_ranges = append(words_, plan.key_ranges);
  lists_.visible_keys = append(words_, plan.visible_keys);
  lists_.hidden_keys = append(words_, plan.hidden_keys);
}

// Its rows, and which of them are in which part; the parts themselves follow in the plan's order.
void DecodeWork::add_sample(const AttentionPlan& plan, const AttentionSample& sample) {
  const size_t begin = rows_.size();
  const auto row_of = [&](int32_t row) -> DecodeRow& {
    return rows_[begin + static_cast<size_t>(row - sample.query_row_begin)];
  };
  for (int64_t i = 0; i < sample.num_query_rows; ++i)
    rows_.push_back({static_cast<int32_t>(sample.query_row_begin + i), -1, {-1, -1}});
  for (int64_t p = sample.part_begin; p < sample.part_begin + sample.num_parts; ++p) {
    const AttentionPart& part = plan.parts[static_cast<size_t>(p)];
    for (int32_t row = part.queries.first; row < part.queries.end(); ++row)
      row_of(row).part[part.slot] = static_cast<int32_t>(p);
  }
  for (int64_t s = sample.self_begin; s < sample.self_begin + sample.num_self; ++s) {
    const SelfRows& self = plan.self_rows[static_cast<size_t>(s)];
    for (int32_t i = 0; i < self.count; ++i) row_of(self.query + i).self = self.key + i;
  }
}

void DecodeWork::add_part(const AttentionPlan& plan, const AttentionPart& part,
                          int most_stretches) {
  const auto at = static_cast<size_t>(part.visible_begin);
  const int32_t begin = plan.hidden_keys.empty() ? 0 : plan.hidden_keys[at];
  const auto end = static_cast<int32_t>(part.num_keys);
  const int32_t length = stretch_of(end - begin, most_stretches);
  const DecodePart added{part.slot,
                         part.kind == AttentionPart::Kind::kMean,
                         part.queries.first,
                         part.queries.count,
                         static_cast<int32_t>(part.visible_begin),
                         quotient_up(end - begin, length),
                         lists_.num_partials};
  auto range = static_cast<size_t>(part.key_begin);
  int32_t before = 0;
  for (int32_t first = begin; first < end; first += length) {
    while (first - before >= plan.key_ranges[range].count) before += plan.key_ranges[range++].count;
    stretches_.push_back({to_int(std::ssize(parts_)), first, std::min(first + length, end),
                          static_cast<int32_t>(range), before, lists_.num_partials});
    lists_.num_partials += part.queries.count;
  }
  lists_.most_queries = std::max(lists_.most_queries, part.queries.count);
  parts_.push_back(added);
}

DecodeLists DecodeWork::lists(const int32_t* device_words) const {
  DecodeLists lists = lists_;
  lists.data = device_words;
  return lists;
}

}  // namespace facet::cuda
