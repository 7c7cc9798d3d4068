#include "ops/attention_plan.h"

#include <algorithm>
#include <atomic>
#include <functional>

#include "base/check.h"

namespace facet {
namespace {

uint64_t next_version() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

int32_t to_int(int64_t n) { return static_cast<int32_t>(n); }
RowRange rows_of(int64_t first, int64_t count) { return {to_int(first), to_int(count)}; }

// Appends a part to a plan. Its keys are the rows of the ranges from plan.key_ranges[key_begin] on.
class PartWriter {
 public:
  PartWriter(AttentionPlan& plan, AttentionPart::Kind kind, int slot, int64_t key_begin)
      : plan_(plan) {
    part_.kind = kind;
    part_.slot = slot;
    part_.key_begin = key_begin;
    part_.visible_begin = static_cast<int64_t>(plan.visible_keys.size());
  }
  // Rows must follow each other.
  void query(int64_t row, int64_t visible) {
    if (part_.queries.count == 0) part_.queries.first = to_int(row);
    ++part_.queries.count;
    plan_.visible_keys.push_back(to_int(visible));
  }
  // Keeps the part if it has queries. The next query begins another one of the same keys.
  void close() {
    if (part_.queries.count == 0) return;
    part_.num_keys = plan_.visible_keys.back();
    plan_.parts.push_back(part_);
    part_.queries = {};
    part_.visible_begin = static_cast<int64_t>(plan_.visible_keys.size());
  }

 private:
  AttentionPlan& plan_;
  AttentionPart part_;
};

int64_t add_key_range(AttentionPlan& plan, int64_t first, int64_t count) {
  plan.key_ranges.push_back(rows_of(first, count));
  return static_cast<int64_t>(plan.key_ranges.size()) - 1;
}

// Opens a sample of the given rows; its parts and self rows follow until close_sample.
void open_sample(AttentionPlan& plan, int64_t query_row, int64_t num_queries, int64_t key_row,
                 int64_t num_keys) {
  AttentionSample sample;
  sample.part_begin = static_cast<int64_t>(plan.parts.size());
  sample.self_begin = static_cast<int64_t>(plan.self_rows.size());
  sample.query_row_begin = query_row;
  sample.num_query_rows = num_queries;
  sample.key_row_begin = key_row;
  sample.num_key_rows = num_keys;
  plan.samples.push_back(sample);
}

void close_sample(AttentionPlan& plan) {
  AttentionSample& sample = plan.samples.back();
  sample.num_parts = static_cast<int64_t>(plan.parts.size()) - sample.part_begin;
  sample.num_self = static_cast<int64_t>(plan.self_rows.size()) - sample.self_begin;
}

// ---- MMCA

TokenKind other_than(TokenKind kind) {
  return kind == TokenKind::kText ? TokenKind::kImage : TokenKind::kText;
}
int slot_of(TokenKind kind) { return kind == TokenKind::kText ? 0 : 1; }

// Writes the parts of one sample.
class MmcaWriter {
 public:
  MmcaWriter(AttentionPlan& plan, const std::vector<TokenKind>& kinds,
             const std::vector<int32_t>& positions, MmcaRule rule, RowRange rows)
      : plan_(plan), kinds_(kinds), positions_(positions), rows_(rows), rule_(rule) {
    // Text before images before text: every list of keys that a part may have begins somewhere.
    text_ = add_runs(TokenKind::kText);
    images_ = add_runs(TokenKind::kImage);
    text_again_ = add_runs(TokenKind::kText);
  }

  void write() {
    for (const TokenKind kind : {TokenKind::kText, TokenKind::kImage}) {
      int64_t before = 0;  // rows of the kind in earlier runs
      for (int64_t run = first_run(kind); run < end_of_runs(kind); ++run) {
        const RowRange queries = plan_.key_ranges[static_cast<size_t>(run)];
        if (kind == TokenKind::kImage)
          plan_.self_rows.push_back({queries.first, queries.first, queries.count});
        add_queries(kind, queries, before);
        before += queries.count;
      }
    }
  }

 private:
  int64_t first_run(TokenKind kind) const { return kind == TokenKind::kText ? text_ : images_; }
  int64_t end_of_runs(TokenKind kind) const {
    return kind == TokenKind::kText ? images_ : text_again_;
  }
  TokenKind kind_of(int64_t row) const { return kinds_[static_cast<size_t>(row)]; }

  // The sample's rows of one kind; returns the place of the first range.
  int64_t add_runs(TokenKind kind) {
    const auto place = static_cast<int64_t>(plan_.key_ranges.size());
    for (int64_t row = rows_.first; row < rows_.end(); ++row) {
      if (kind_of(row) != kind) continue;
      if (row == rows_.first || kind_of(row - 1) != kind) add_key_range(plan_, row, 0);
      ++plan_.key_ranges.back().count;
    }
    return place;
  }

  // The parts of one run; `before`: rows of its kind in earlier runs.
  void add_queries(TokenKind kind, RowRange queries, int64_t before) {
    const bool visual_chat = rule_ == MmcaRule::kVisualChat;
    if (kind == TokenKind::kText || visual_chat) add_softmax(queries, before, TokenKind::kText);
    if (kind == TokenKind::kText) add_softmax(queries, before, TokenKind::kImage);
    if (visual_chat) add_mean(kind, queries, before);
  }

  // How many tokens of a kind there are up to a row; `own`: how many of the row's own before it.
  int64_t visible(int64_t row, int64_t own, TokenKind kind) const {
    return kind == kind_of(row) ? own + 1 : positions_[static_cast<size_t>(row)] - own;
  }

  // Softmax over the earlier keys of one kind. Rows before the first such key are left out.
  void add_softmax(RowRange queries, int64_t before, TokenKind keys) {
    PartWriter part(plan_, AttentionPart::Kind::kSoftmax, slot_of(keys), first_run(keys));
    for (int64_t i = 0; i < queries.count; ++i)
      if (const int64_t seen = visible(queries.first + i, before + i, keys); seen > 0)
        part.query(queries.first + i, seen);
    part.close();
  }

  // For the rows before the first token of the other kind: the mean over all keys of that kind,
  // which are later, and over the tokens up to the row, which are of its own.
  void add_mean(TokenKind kind, RowRange queries, int64_t before) {
    const TokenKind other = other_than(kind);
    int64_t later = 0;
    for (int64_t run = first_run(other); run < end_of_runs(other); ++run)
      later += plan_.key_ranges[static_cast<size_t>(run)].count;
    PartWriter part(plan_, AttentionPart::Kind::kMean, slot_of(other), first_run(other));
    for (int64_t i = 0; i < queries.count; ++i)
      if (visible(queries.first + i, before + i, other) == 0)
        part.query(queries.first + i, later + before + i + 1);
    part.close();
  }

  AttentionPlan& plan_;
  const std::vector<TokenKind>& kinds_;
  const std::vector<int32_t>& positions_;
  RowRange rows_;
  MmcaRule rule_;
  int64_t text_, images_, text_again_;  // places in plan.key_ranges
};

// Counts the keys of a part that lie before a position. Asked for positions in increasing order.
class EarlierKeys {
 public:
  EarlierKeys(const AttentionPlan& plan, const AttentionPart& part,
              const std::vector<int32_t>& positions)
      : range_(plan.key_ranges.begin() + part.key_begin), positions_(positions) {}
  // Of the first `visible` keys.
  int64_t count_before(int64_t position, int64_t visible) {
    for (; count_ < visible; ++count_, ++in_range_) {
      for (; in_range_ == range_->count; ++range_) in_range_ = 0;
      if (positions_[static_cast<size_t>(range_->first + in_range_)] >= position) break;
    }
    return count_;
  }

 private:
  std::vector<RowRange>::const_iterator range_;
  const std::vector<int32_t>& positions_;
  int32_t in_range_ = 0;
  int64_t count_ = 0;
};

// The part as far as windows leave it keys: its runs of queries that keep some.
void add_within_window(AttentionPlan& limited, const AttentionPlan& plan, const AttentionPart& part,
                       const std::vector<int32_t>& positions, int64_t window) {
  ASSERT(part.kind == AttentionPart::Kind::kSoftmax, "a window over keys whose mean is taken");
  EarlierKeys earlier(plan, part, positions);
  PartWriter run(limited, part.kind, part.slot, part.key_begin);
  for (int32_t i = 0; i < part.queries.count; ++i) {
    const int32_t row = part.queries.first + i;
    const int64_t visible = plan.visible_keys[static_cast<size_t>(part.visible_begin + i)];
    const int64_t window_begin = positions[static_cast<size_t>(row)] - window + 1;
    const int64_t hidden = earlier.count_before(window_begin, visible);
    if (hidden == visible) {
      run.close();
      continue;
    }
    run.query(row, visible);
    limited.hidden_keys.push_back(to_int(hidden));
  }
  run.close();
}

// The query rows that keep_queries() keeps.
class KeptRows {
 public:
  explicit KeptRows(const std::vector<int32_t>& rows) : rows_(rows) {
    ASSERT(std::adjacent_find(rows.begin(), rows.end(), std::greater_equal<>()) == rows.end(),
           "the rows that a plan keeps do not increase");
  }
  int32_t operator[](int32_t i) const { return rows_[static_cast<size_t>(i)]; }
  // Those of a range of the plan's rows, by their new numbers.
  RowRange of(const RowRange& range) const {
    const int64_t first = place_of(range.first);
    return rows_of(first, place_of(range.end()) - first);
  }

 private:
  int64_t place_of(int32_t row) const {
    return std::lower_bound(rows_.begin(), rows_.end(), row) - rows_.begin();
  }

  const std::vector<int32_t>& rows_;
};

void add_kept(AttentionPlan& kept, const AttentionPlan& plan, const AttentionPart& part,
              const KeptRows& rows) {
  PartWriter writer(kept, part.kind, part.slot, part.key_begin);
  const RowRange queries = rows.of(part.queries);
  for (int32_t i = queries.first; i < queries.end(); ++i) {
    const auto query = static_cast<size_t>(part.visible_begin + rows[i] - part.queries.first);
    writer.query(i, plan.visible_keys[query]);
    if (!plan.hidden_keys.empty()) kept.hidden_keys.push_back(plan.hidden_keys[query]);
  }
  writer.close();
}

// Of some self rows the kept ones, in runs whose values follow one another, too.
void add_kept(AttentionPlan& kept, const SelfRows& self, const KeptRows& rows) {
  const RowRange queries = rows.of({self.query, self.count});
  for (int32_t i = queries.first; i < queries.end(); ++i) {
    if (i == queries.first || rows[i] != rows[i - 1] + 1)
      kept.self_rows.push_back({i, self.key + rows[i] - self.query, 0});
    ++kept.self_rows.back().count;
  }
}

}  // namespace

void AttentionPlan::clear() {
  samples.clear();
  parts.clear();
  key_ranges.clear();
  visible_keys.clear();
  hidden_keys.clear();
  self_rows.clear();
  num_slots = 1;
  some_queries = false;
  pool_rows = 0;
  version = next_version();
}

void make_full_plan(AttentionPlan& plan, int64_t num_samples, int64_t queries_per_sample,
                    int64_t keys_per_sample) {
  plan.clear();
  for (int64_t b = 0; b < num_samples; ++b) {
    const int64_t query = b * queries_per_sample, key = b * keys_per_sample;
    open_sample(plan, query, queries_per_sample, key, keys_per_sample);
    PartWriter part(plan, AttentionPart::Kind::kSoftmax, 0,
                    add_key_range(plan, key, keys_per_sample));
    if (keys_per_sample > 0)
      for (int64_t i = 0; i < queries_per_sample; ++i) part.query(query + i, keys_per_sample);
    part.close();
    close_sample(plan);
  }
}

void make_causal_plan(AttentionPlan& plan, const std::vector<int32_t>& sample_begin) {
  plan.clear();
  for (size_t b = 0; b + 1 < sample_begin.size(); ++b) {
    const int64_t begin = sample_begin[b], count = sample_begin[b + 1] - begin;
    open_sample(plan, begin, count, begin, count);
    PartWriter part(plan, AttentionPart::Kind::kSoftmax, 0, add_key_range(plan, begin, count));
    for (int64_t i = 0; i < count; ++i) part.query(begin + i, i + 1);
    part.close();
    close_sample(plan);
  }
}

void make_mmca_plan(AttentionPlan& plan, const std::vector<int32_t>& sample_begin,
                    const std::vector<TokenKind>& kinds, const std::vector<int32_t>& positions,
                    MmcaRule rule) {
  ASSERT(!sample_begin.empty() && sample_begin.back() == static_cast<int64_t>(kinds.size()) &&
             kinds.size() == positions.size(),
         "{} token kinds and {} positions do not match the samples' rows", kinds.size(),
         positions.size());
  plan.clear();
  plan.num_slots = 2;
  for (size_t b = 0; b + 1 < sample_begin.size(); ++b) {
    const int64_t begin = sample_begin[b], count = sample_begin[b + 1] - begin;
    open_sample(plan, begin, count, begin, count);
    MmcaWriter(plan, kinds, positions, rule, rows_of(begin, count)).write();
    close_sample(plan);
  }
}

void limit_to_window(AttentionPlan& limited, const AttentionPlan& plan,
                     const std::vector<int32_t>& positions, int64_t window) {
  limited.clear();
  limited.key_ranges = plan.key_ranges;
  limited.self_rows = plan.self_rows;
  limited.num_slots = plan.num_slots;
  limited.samples = plan.samples;
  for (AttentionSample& sample : limited.samples) {
    const int64_t begin = sample.part_begin, end = begin + sample.num_parts;
    sample.part_begin = static_cast<int64_t>(limited.parts.size());
    for (int64_t p = begin; p < end; ++p)
      add_within_window(limited, plan, plan.parts[static_cast<size_t>(p)], positions, window);
    sample.num_parts = static_cast<int64_t>(limited.parts.size()) - sample.part_begin;
  }
}

void keep_queries(AttentionPlan& kept, const AttentionPlan& plan,
                  const std::vector<int32_t>& rows) {
  kept.clear();
  kept.key_ranges = plan.key_ranges;
  kept.num_slots = plan.num_slots;
  const KeptRows kept_rows(rows);
  int64_t query_rows = 0;
  for (const AttentionSample& sample : plan.samples) {
    ASSERT(sample.query_row_begin == query_rows, "queries of a sample from row {} on, not {}",
           sample.query_row_begin, query_rows);
    query_rows += sample.num_query_rows;
    const RowRange queries = kept_rows.of(rows_of(sample.query_row_begin, sample.num_query_rows));
    open_sample(kept, queries.first, queries.count, sample.key_row_begin, sample.num_key_rows);
    for (int64_t p = 0; p < sample.num_parts; ++p)
      add_kept(kept, plan, plan.parts[static_cast<size_t>(sample.part_begin + p)], kept_rows);
    for (int64_t n = 0; n < sample.num_self; ++n)
      add_kept(kept, plan.self_rows[static_cast<size_t>(sample.self_begin + n)], kept_rows);
    close_sample(kept);
  }
  ASSERT(rows.empty() || (rows.front() >= 0 && rows.back() < query_rows),
         "rows {} to {} of {} query rows", rows.front(), rows.back(), query_rows);
  kept.some_queries = static_cast<int64_t>(rows.size()) < query_rows;
}

}  // namespace facet
