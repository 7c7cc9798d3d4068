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

// A plan as sets, after its promises about order and ranges were checked.
Expanded expand(const AttentionPlan& plan) {
  Expanded expanded;
  for (const AttentionSample& sample : plan.samples) {
    for (int64_t p = sample.part_begin; p < sample.part_begin + sample.num_parts; ++p) {
      const AttentionPart& part = plan.parts[static_cast<size_t>(p)];
      EXPECT_GT(part.num_queries, 0);
      EXPECT_LT(part.slot, plan.num_slots);
      for (int64_t i = 0; i < part.num_queries; ++i) {
        const size_t query = static_cast<size_t>(part.query_begin + i);
        const int64_t row = plan.query_rows[query], visible = plan.visible_keys[query];
        EXPECT_GE(visible, 1);
        EXPECT_LE(visible, part.num_keys);
        EXPECT_GE(row, sample.query_row_begin);
        EXPECT_LT(row, sample.query_row_begin + sample.num_query_rows);
        if (i > 0) {
          EXPECT_GE(visible, plan.visible_keys[query - 1]);
          EXPECT_GT(row, plan.query_rows[query - 1]);
        }
        int64_t hidden = 0;
        if (!plan.hidden_keys.empty()) {
          hidden = plan.hidden_keys.at(query);
          EXPECT_GE(hidden, i > 0 ? plan.hidden_keys[query - 1] : 0);
          EXPECT_LT(hidden, visible);
        }
        const auto keys = plan.key_rows.begin() + part.key_begin;
        Seen seen{part.kind, std::set<int64_t>(keys + hidden, keys + visible)};
        EXPECT_EQ(static_cast<int64_t>(seen.keys.size()), visible - hidden) << "a key twice";
        EXPECT_GE(*seen.keys.begin(), sample.key_row_begin);
        EXPECT_LT(*seen.keys.rbegin(), sample.key_row_begin + sample.num_key_rows);
        EXPECT_TRUE(expanded.emplace(std::pair(row, part.slot), seen).second) << "two parts";
      }
    }
  }
  for (const int32_t row : plan.self_rows)
    EXPECT_FALSE(expanded.contains({row, 0}) && expanded.contains({row, 1})) << "row " << row;
  return expanded;
}

// The same from dense masks; image rows' weight on themselves is listed by self_rows instead.
Expanded expand(const Samples& samples, Rule rule, int64_t window = INT64_MAX) {
  const std::vector<Masks> masks = masks_of(samples, rule, window);
  const std::vector<TokenKind> kinds = kinds_of(samples);
  const int64_t n = static_cast<int64_t>(kinds.size());
  Expanded expanded;
  for (size_t slot = 0; slot < masks.size(); ++slot) {
    for (int64_t i = 0; i < n; ++i) {
      if (slot == 1 && kinds[static_cast<size_t>(i)] == TokenKind::kImage) continue;
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
    AttentionPlan plan;
    make_mmca_plan(plan, begins_of(kSamples), kinds_of(kSamples),
                   rule == Rule::kPublished ? MmcaRule::kPublished : MmcaRule::kVisualChat);
    EXPECT_EQ(expand(plan), expand(kSamples, rule));
    EXPECT_EQ(plan.num_slots, 2);
    std::vector<int32_t> images;
    const std::vector<TokenKind> kinds = kinds_of(kSamples);
    for (size_t i = 0; i < kinds.size(); ++i)
      if (kinds[i] == TokenKind::kImage) images.push_back(static_cast<int32_t>(i));
    EXPECT_EQ(plan.self_rows, images);
  }
}

TEST(AttentionPlan, SamplesListTheirOwnSelfRows) {
  AttentionPlan plan;
  make_mmca_plan(plan, begins_of({"ti", "tt", "iit"}), kinds_of({"ti", "tt", "iit"}),
                 MmcaRule::kPublished);
  ASSERT_EQ(plan.samples.size(), 3u);
  EXPECT_EQ(plan.samples[1].num_self, 0);
  EXPECT_EQ(plan.samples[2].self_begin, 1);
  EXPECT_EQ(plan.samples[2].num_self, 2);
}

TEST(AttentionPlan, AWindowHidesWhatLiesBeforeItWhateverItsKind) {
  for (const int64_t window : {1, 2, 3, 5, 100}) {
    AttentionPlan causal, mmca;
    make_causal_plan(causal, begins_of(kSamples));
    limit_to_window(causal, window);
    EXPECT_EQ(expand(causal), expand(kSamples, Rule::kCausal, window)) << window;
    make_mmca_plan(mmca, begins_of(kSamples), kinds_of(kSamples), MmcaRule::kPublished);
    limit_to_window(mmca, window);
    EXPECT_EQ(expand(mmca), expand(kSamples, Rule::kPublished, window)) << window;
  }
}

TEST(AttentionPlan, TheLastQueriesKeepTheirWindows) {
  const std::string sample = "ttiitittt";
  for (int64_t first = 0; first < 9; ++first) {
    AttentionPlan plan;
    make_mmca_plan(plan, begins_of({sample}), kinds_of({sample}), MmcaRule::kPublished);
    limit_to_window(plan, 3);
    keep_last_queries(plan, first);
    Expanded expected;
    for (const auto& [place, seen] : expand(Samples{sample}, Rule::kPublished, 3))
      if (place.first >= first)
        expected.emplace(std::pair(place.first - first, place.second), seen);
    for (int64_t row = first; row < 9; ++row)
      if (sample[static_cast<size_t>(row)] == 'i')
        expected.emplace(std::pair(row - first, 1), Seen{AttentionPart::Kind::kSoftmax, {row}});
    EXPECT_EQ(expand(plan), expected) << first;
  }
}

TEST(AttentionPlan, TheLastQueriesSeeWhatTheySawInTheWhole) {
  for (const std::string& sample : Samples{"ttiitit", "iit", "ttt", "t", "ti"}) {
    const auto rows = static_cast<int64_t>(sample.size());
    for (const Rule rule : {Rule::kCausal, Rule::kPublished, Rule::kVisualChat}) {
      for (int64_t first = 0; first < rows; ++first) {
        AttentionPlan plan;
        if (rule == Rule::kCausal)
          make_causal_plan(plan, begins_of({sample}));
        else
          make_mmca_plan(plan, begins_of({sample}), kinds_of({sample}),
                         rule == Rule::kPublished ? MmcaRule::kPublished : MmcaRule::kVisualChat);
        keep_last_queries(plan, first);
        Expanded expected;
        for (const auto& [place, seen] : expand(Samples{sample}, rule))
          if (place.first >= first)
            expected.emplace(std::pair(place.first - first, place.second), seen);
        for (int64_t row = first; row < rows && rule != Rule::kCausal; ++row)
          if (sample[static_cast<size_t>(row)] == 'i')
            expected.emplace(std::pair(row - first, 1), Seen{AttentionPart::Kind::kSoftmax, {row}});
        EXPECT_EQ(expand(plan), expected)
            << sample << ", rule " << static_cast<int>(rule) << ", first " << first;
        EXPECT_EQ(plan.samples.at(0).num_query_rows, rows - first);
        EXPECT_EQ(plan.samples.at(0).num_key_rows, rows);
        EXPECT_TRUE(plan.self_rows.empty());
      }
    }
  }
}

TEST(AttentionPlan, AnotherBatchLeavesNoTraceAndAllocatesNothing) {
  AttentionPlan plan, fresh;
  make_mmca_plan(plan, begins_of(kSamples), kinds_of(kSamples), MmcaRule::kVisualChat);
  const int32_t* memory = plan.key_rows.data();
  make_causal_plan(plan, {0, 3, 5});
  make_causal_plan(fresh, {0, 3, 5});
  EXPECT_EQ(plan.key_rows.data(), memory);
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
  keep_last_queries(plan, 2);
  expect_new(plan);
  limit_to_window(other, 2);
  expect_new(other);
  make_mmca_plan(plan, {0, 2}, {TokenKind::kText, TokenKind::kImage}, MmcaRule::kPublished);
  expect_new(plan);
  plan.clear();
  expect_new(plan);
  const AttentionPlan copied = other;
  EXPECT_EQ(copied.version, other.version);
}

}  // namespace
}  // namespace facet::op_test
