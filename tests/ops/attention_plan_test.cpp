#include "ops/attention_plan.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/ops/attention_oracle.h"

namespace facet::op_test {
namespace {

// What one row sees in one slot.
struct Seen {
  AttentionPart::Kind kind;
  std::set<int64_t> keys;

  bool operator==(const Seen&) const = default;
};
using Expanded = std::map<std::pair<int64_t, int>, Seen>;  // by (row, slot)

// A plan as sets, after its promises about order and ranges were checked. A row that adds its own
// value is a softmax over one key of slot 1.
Expanded expand(const AttentionPlan& plan) {
  Expanded expanded;
  const auto add = [&](int64_t row, int slot, const Seen& seen) {
    EXPECT_TRUE(expanded.emplace(std::pair(row, slot), seen).second) << "two parts";
  };
  for (const AttentionSample& sample : plan.samples) {
    for (int64_t p = sample.part_begin; p < sample.part_begin + sample.num_parts; ++p) {
      const AttentionPart& part = plan.parts[static_cast<size_t>(p)];
      EXPECT_GT(part.queries.count, 0);
      EXPECT_LT(part.slot, plan.num_slots);
      EXPECT_GE(part.queries.first, sample.query_row_begin);
      EXPECT_LE(part.queries.end(), sample.query_row_begin + sample.num_query_rows);
      std::vector<int64_t> keys;
      for (auto range = plan.key_ranges.begin() + part.key_begin;
           static_cast<int64_t>(keys.size()) < part.num_keys; ++range)
        for (int64_t row = range->first; row < range->end(); ++row) keys.push_back(row);
      for (int32_t i = 0; i < part.queries.count; ++i) {
        const auto query = static_cast<size_t>(part.visible_begin + i);
        const int64_t visible = plan.visible_keys[query];
        EXPECT_GE(visible, 1);
        EXPECT_LE(visible, part.num_keys);
        if (i > 0) {
          EXPECT_GE(visible, plan.visible_keys[query - 1]);
        }
        int64_t hidden = 0;
        if (!plan.hidden_keys.empty()) {
          hidden = plan.hidden_keys.at(query);
          EXPECT_GE(hidden, i > 0 ? plan.hidden_keys[query - 1] : 0);
          EXPECT_LT(hidden, visible);
          if (hidden >= visible) continue;
        }
        Seen seen{part.kind, std::set<int64_t>(keys.begin() + hidden, keys.begin() + visible)};
        EXPECT_EQ(static_cast<int64_t>(seen.keys.size()), visible - hidden) << "a key twice";
        EXPECT_GE(*seen.keys.begin(), sample.key_row_begin);
        EXPECT_LT(*seen.keys.rbegin(), sample.key_row_begin + sample.num_key_rows);
        add(part.queries.first + i, part.slot, seen);
      }
    }
    for (int64_t n = sample.self_begin; n < sample.self_begin + sample.num_self; ++n) {
      const SelfRows& self = plan.self_rows[static_cast<size_t>(n)];
      for (int32_t i = 0; i < self.count; ++i)
        add(self.query + i, 1, Seen{AttentionPart::Kind::kSoftmax, {self.key + i}});
    }
  }
  return expanded;
}

// The same from dense masks.
Expanded expand(const Samples& samples, Rule rule, Order order = Order::kByPosition,
                int64_t window = kNoWindow) {
  const std::vector<Masks> masks = masks_of(samples, rule, order, window);
  const int64_t n = begins_of(samples).back();
  Expanded expanded;
  for (size_t slot = 0; slot < masks.size(); ++slot) {
    for (int64_t i = 0; i < n; ++i) {
      const uint8_t* mask = &masks[slot][static_cast<size_t>(i * n)];
      const uint8_t least = *std::min_element(mask, mask + n);
      if (least == 2) continue;
      Seen seen{least == 0 ? AttentionPart::Kind::kSoftmax : AttentionPart::Kind::kMean, {}};
      for (int64_t j = 0; j < n; ++j)
        if (mask[j] == least) seen.keys.insert(j);
      expanded.emplace(std::pair(i, static_cast<int>(slot)), seen);
    }
  }
  return expanded;
}

const Samples kSamples = {"ttiitit", "iit", "ttt", "tiii", "i", "t", "iiii", "it", "ttiiiitt"};

TEST(AttentionPlan, FullKeepsSamplesApart) {
  AttentionPlan plan;
  make_full_plan(plan, 3, 5, 5);
  EXPECT_EQ(expand(plan), expand(Samples{"ttttt", "ttttt", "ttttt"}, Rule::kFull));
  make_full_plan(plan, 2, 2, 7);
  const Expanded expanded = expand(plan);
  EXPECT_EQ(expanded.size(), 4u);
  EXPECT_EQ(expanded.at({3, 0}).keys, (std::set<int64_t>{7, 8, 9, 10, 11, 12, 13}));
}

TEST(AttentionPlan, CausalSeesItselfAndWhatIsEarlier) {
  AttentionPlan plan;
  make_causal_plan(plan, begins_of(kSamples));
  EXPECT_EQ(expand(plan), expand(kSamples, Rule::kCausal));
  EXPECT_EQ(plan.num_slots, 1);
  EXPECT_TRUE(plan.self_rows.empty());
}

TEST(AttentionPlan, MmcaFollowsTheMasks) {
  for (const Rule rule : {Rule::kPublished, Rule::kVisualChat}) {
    for (const Order order : {Order::kByPosition, Order::kByKind}) {
      const AttentionPlan plan = plan_of(kSamples, rule, order);
      EXPECT_EQ(expand(plan), expand(kSamples, rule, order)) << static_cast<int>(order);
      EXPECT_EQ(plan.num_slots, 2);
    }
  }
}

// What a kernel may read as one block of rows.
TEST(AttentionPlan, SortedRowsHaveOneRangeOfKeysInEverySoftmax) {
  for (const Rule rule : {Rule::kPublished, Rule::kVisualChat}) {
    const AttentionPlan plan = plan_of(kSamples, rule, Order::kByKind);
    for (const AttentionPart& part : plan.parts)
      if (part.kind == AttentionPart::Kind::kSoftmax) {
        EXPECT_LE(part.num_keys, plan.key_ranges.at(static_cast<size_t>(part.key_begin)).count);
      }
    for (const AttentionSample& sample : plan.samples) EXPECT_LE(sample.num_self, 1);
  }
}

TEST(AttentionPlan, SamplesListTheirOwnSelfRows) {
  const AttentionPlan plan = plan_of({"ti", "tt", "iit"}, Rule::kPublished);
  EXPECT_EQ(plan.self_rows, (std::vector<SelfRows>{{1, 1, 1}, {4, 4, 2}}));
  ASSERT_EQ(plan.samples.size(), 3u);
  EXPECT_EQ(plan.samples[1].num_self, 0);
  EXPECT_EQ(plan.samples[2].self_begin, 1);
  EXPECT_EQ(plan.samples[2].num_self, 1);
}

TEST(AttentionPlan, AWindowHidesWhatLiesBeforeItWhateverItsKind) {
  for (const int64_t window : {1, 2, 3, 5, 100}) {
    EXPECT_EQ(expand(plan_of(kSamples, Rule::kCausal, Order::kByPosition, window)),
              expand(kSamples, Rule::kCausal, Order::kByPosition, window))
        << window;
    for (const Order order : {Order::kByPosition, Order::kByKind})
      EXPECT_EQ(expand(plan_of(kSamples, Rule::kPublished, order, window)),
                expand(kSamples, Rule::kPublished, order, window))
          << window << ", order " << static_cast<int>(order);
  }
}

// Between two images, where the first has left the window, text rows have no image part.
TEST(AttentionPlan, AWindowCutsAPartWhereItsQueriesKeepNoKey) {
  const AttentionPlan plan =
      plan_of({"ttiittttit"}, Rule::kPublished, Order::kByKind, /*window=*/3);
  std::vector<RowRange> queries;
  for (const AttentionPart& part : plan.parts)
    if (part.slot == 1) queries.push_back(part.queries);
  // Positions 4 and 5 see the first two images, 9 the third.
  EXPECT_EQ(queries, (std::vector<RowRange>{{2, 2}, {6, 1}}));
}

TEST(AttentionPlan, TheLastQueriesKeepTheirWindows) {
  const std::string sample = "ttiitittt";
  for (const Order order : {Order::kByPosition, Order::kByKind})
    for (int64_t first = 0; first < 9; ++first) {
      const AttentionPlan plan = last_of(plan_of({sample}, Rule::kPublished, order, 3), first);
      Expanded expected;
      for (const auto& [place, seen] : expand(Samples{sample}, Rule::kPublished, order, 3))
        if (place.first >= first)
          expected.emplace(std::pair(place.first - first, place.second), seen);
      EXPECT_EQ(expand(plan), expected) << first << ", order " << static_cast<int>(order);
    }
}

TEST(AttentionPlan, TheLastQueriesSeeWhatTheySawInTheWhole) {
  for (const std::string& sample : Samples{"ttiitit", "iit", "ttt", "t", "ti"}) {
    const auto rows = static_cast<int64_t>(sample.size());
    for (const Rule rule : {Rule::kCausal, Rule::kPublished, Rule::kVisualChat}) {
      for (int64_t first = 0; first < rows; ++first) {
        const AttentionPlan plan = last_of(plan_of({sample}, rule), first);
        Expanded expected;
        for (const auto& [place, seen] : expand(Samples{sample}, rule))
          if (place.first >= first)
            expected.emplace(std::pair(place.first - first, place.second), seen);
        EXPECT_EQ(expand(plan), expected)
            << sample << ", rule " << static_cast<int>(rule) << ", first " << first;
        EXPECT_EQ(plan.samples.at(0).num_query_rows, rows - first);
        EXPECT_EQ(plan.samples.at(0).num_key_rows, rows);
      }
    }
  }
}

// What the kept rows saw, by their new numbers.
Expanded seen_by_kept(const Expanded& whole, const std::vector<int32_t>& rows) {
  Expanded kept;
  for (size_t i = 0; i < rows.size(); ++i)
    for (const int slot : {0, 1})
      if (const auto seen = whole.find({rows[i], slot}); seen != whole.end())
        kept.emplace(std::pair(static_cast<int64_t>(i), slot), seen->second);
  return kept;
}

TEST(AttentionPlan, KeptQueriesSeeWhatTheySawInTheWhole) {
  const auto total = static_cast<int32_t>(begins_of(kSamples).back());
  for (const Rule rule : {Rule::kCausal, Rule::kPublished, Rule::kVisualChat})
    for (const Order order : {Order::kByPosition, Order::kByKind})
      for (const int64_t window : {int64_t{3}, kNoWindow}) {
        if (rule == Rule::kVisualChat && window != kNoWindow) continue;
        const AttentionPlan plan = plan_of(kSamples, rule, order, window);
        for (const std::vector<int32_t>& rows :
             {some_of(total), std::vector<int32_t>{0}, std::vector<int32_t>{8, 9, total - 1},
              std::vector<int32_t>()}) {
          SCOPED_TRACE(rows.size());
          const AttentionPlan kept = kept_of(plan, rows);
          EXPECT_EQ(expand(kept), seen_by_kept(expand(plan), rows));
          EXPECT_TRUE(kept.some_queries);
          ASSERT_EQ(kept.samples.size(), plan.samples.size());
          int64_t queries = 0;
          for (size_t b = 0; b < kept.samples.size(); ++b) {
            EXPECT_EQ(kept.samples[b].query_row_begin, queries);
            queries += kept.samples[b].num_query_rows;
            EXPECT_EQ(kept.samples[b].num_key_rows, plan.samples[b].num_key_rows);
          }
          EXPECT_EQ(queries, static_cast<int64_t>(rows.size()));
        }
      }
}

// No key is read that only the rows left out saw.
TEST(AttentionPlan, PartsEndWithTheLastKeyThatAKeptQuerySees) {
  const AttentionPlan kept = kept_of(plan_of({"tttttt"}, Rule::kCausal), {1, 3});
  ASSERT_EQ(kept.parts.size(), 1u);
  EXPECT_EQ(kept.parts[0].num_keys, 4);
  EXPECT_FALSE(kept_of(plan_of({"tt"}, Rule::kCausal), {0, 1}).some_queries);
}

TEST(AttentionPlan, KeptSelfRowsAreRunsOfQueriesAndKeys) {
  const AttentionPlan kept = kept_of(plan_of({"tiiiii"}, Rule::kPublished), {0, 2, 3, 5});
  EXPECT_EQ(kept.self_rows, (std::vector<SelfRows>{{1, 2, 2}, {3, 5, 1}}));
}

TEST(AttentionPlan, AnotherBatchLeavesNoTraceAndAllocatesNothing) {
  AttentionPlan plan, fresh;
  plan = plan_of(kSamples, Rule::kVisualChat);
  const int32_t* memory = plan.visible_keys.data();
  make_causal_plan(plan, {0, 3, 5});
  make_causal_plan(fresh, {0, 3, 5});
  EXPECT_EQ(plan.visible_keys.data(), memory);
  EXPECT_EQ(expand(plan), expand(fresh));
  EXPECT_EQ(plan.samples.size(), 2u);
  EXPECT_EQ(plan.num_slots, 1);
  EXPECT_TRUE(plan.self_rows.empty());
}

// A backend finds by the version what it has derived from a plan.
TEST(AttentionPlanVersion, EveryContentHasItsOwn) {
  AttentionPlan plan, other;
  EXPECT_EQ(plan.version, 0u);
  std::set<uint64_t> versions = {0};
  const auto expect_new = [&](const AttentionPlan& made) {
    EXPECT_TRUE(versions.insert(made.version).second) << made.version;
  };
  make_causal_plan(plan, {0, 3, 5});
  expect_new(plan);
  make_causal_plan(other, {0, 3, 5});
  expect_new(other);
  make_full_plan(plan, 1, 4, 4);
  expect_new(plan);
  limit_to_window(other, plan, {0, 1, 2, 3}, 2);
  expect_new(other);
  keep_queries(other, plan, {1});
  expect_new(other);
  make_mmca_plan(plan, {0, 2}, {TokenKind::kText, TokenKind::kImage}, {0, 1}, MmcaRule::kPublished);
  expect_new(plan);
  plan.clear();
  expect_new(plan);
  const AttentionPlan copied = other;
  EXPECT_EQ(copied.version, other.version);
}

}  // namespace
}  // namespace facet::op_test
