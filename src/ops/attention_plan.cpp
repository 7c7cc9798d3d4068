#include "ops/attention_plan.h"

#include <algorithm>
#include <atomic>

#include "base/check.h"

namespace facet {
namespace {

uint64_t next_version() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

int32_t to_row(int64_t row) { return static_cast<int32_t>(row); }

// Appends parts to a plan: keys first, then the queries that see prefixes of them.
class PartWriter {
 public:
  PartWriter(AttentionPlan& plan, AttentionPart::Kind kind, int slot) : plan_(plan) {
    part_.kind = kind;
    part_.slot = slot;
    part_.key_begin = static_cast<int64_t>(plan.key_rows.size());
    part_.query_begin = static_cast<int64_t>(plan.query_rows.size());
  }
  void key(int64_t row) { plan_.key_rows.push_back(to_row(row)); }
  int64_t num_keys() const { return static_cast<int64_t>(plan_.key_rows.size()) - part_.key_begin; }
  void query(int64_t row, int64_t visible) {
    plan_.query_rows.push_back(to_row(row));
    plan_.visible_keys.push_back(to_row(visible));
    if (!plan_.hidden_keys.empty()) plan_.hidden_keys.push_back(0);
  }
  // Keeps the part, or drops its keys again if no query sees them.
  void close() {
    part_.num_keys = num_keys();
    part_.num_queries = static_cast<int64_t>(plan_.query_rows.size()) - part_.query_begin;
    if (part_.num_queries == 0)
      plan_.key_rows.resize(static_cast<size_t>(part_.key_begin));
    else
      plan_.parts.push_back(part_);
  }

 private:
  AttentionPlan& plan_;
  AttentionPart part_;
};

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

// The tokens [begin, end) of one sample.
struct Tokens {
  const std::vector<TokenKind>& kinds;
  int64_t begin = 0, end = 0;

  TokenKind operator[](int64_t row) const { return kinds[static_cast<size_t>(row)]; }
  // Tokens before the first one of `kind`.
  int64_t before_first(TokenKind kind) const {
    int64_t row = begin;
    while (row < end && (*this)[row] != kind) ++row;
    return row - begin;
  }
};

// Softmax over the earlier keys of one kind: for all text queries, and for image queries if the
// rule says so. Rows before the first such key are left out.
void add_class_part(AttentionPlan& plan, const Tokens& tokens, TokenKind key_kind, int slot,
                    bool image_queries) {
  PartWriter part(plan, AttentionPart::Kind::kSoftmax, slot);
  for (int64_t row = tokens.begin; row < tokens.end; ++row) {
    if (tokens[row] == key_kind) part.key(row);
    const bool asks = tokens[row] == TokenKind::kText || image_queries;
    if (asks && part.num_keys() > 0) part.query(row, part.num_keys());
  }
  part.close();
}

// For the rows before the first key of `key_kind`, all of the other kind: the mean over all keys of
// `key_kind`, including later ones, and over the tokens up to the row.
void add_fallback_part(AttentionPlan& plan, const Tokens& tokens, TokenKind key_kind, int slot) {
  const int64_t end = tokens.begin + tokens.before_first(key_kind);
  PartWriter part(plan, AttentionPart::Kind::kMean, slot);
  for (int64_t row = end; row < tokens.end; ++row)
    if (tokens[row] == key_kind) part.key(row);
  for (int64_t row = tokens.begin; row < end; ++row) {
    part.key(row);
    part.query(row, part.num_keys());
  }
  part.close();
}

void add_mmca_parts(AttentionPlan& plan, const Tokens& tokens, MmcaRule rule) {
  const bool visual_chat = rule == MmcaRule::kVisualChat;
  add_class_part(plan, tokens, TokenKind::kText, 0, visual_chat);
  add_class_part(plan, tokens, TokenKind::kImage, 1, false);
  if (visual_chat) {
    add_fallback_part(plan, tokens, TokenKind::kText, 0);
    add_fallback_part(plan, tokens, TokenKind::kImage, 1);
  }
  for (int64_t row = tokens.begin; row < tokens.end; ++row)
    if (tokens[row] == TokenKind::kImage) plan.self_rows.push_back(to_row(row));
}

// Keeps the queries for which keep(part, i) returns true, i being an index of plan.query_rows, in
// their order, and drops parts without one. keep may change what the plan says of query i.
template <typename Keep>
void filter_queries(AttentionPlan& plan, const Keep& keep) {
  plan.version = next_version();
  size_t kept = 0;
  for (AttentionSample& sample : plan.samples) {
    const int64_t last = sample.part_begin + sample.num_parts;
    for (int64_t p = sample.part_begin; p < last; ++p) {
      AttentionPart& part = plan.parts[static_cast<size_t>(p)];
      const auto begin = static_cast<size_t>(part.query_begin);
      const auto end = begin + static_cast<size_t>(part.num_queries);
      part.query_begin = static_cast<int64_t>(kept);
      for (size_t i = begin; i < end; ++i) {
        if (!keep(part, i)) continue;
        plan.query_rows[kept] = plan.query_rows[i];
        plan.visible_keys[kept] = plan.visible_keys[i];
        if (!plan.hidden_keys.empty()) plan.hidden_keys[kept] = plan.hidden_keys[i];
        ++kept;
      }
      part.num_queries = static_cast<int64_t>(kept) - part.query_begin;
      if (part.num_queries == 0) --sample.num_parts;
    }
  }
  plan.query_rows.resize(kept);
  plan.visible_keys.resize(kept);
  if (!plan.hidden_keys.empty()) plan.hidden_keys.resize(kept);
  std::erase_if(plan.parts, [](const AttentionPart& part) { return part.num_queries == 0; });
  int64_t parts = 0;
  for (AttentionSample& sample : plan.samples) {
    sample.part_begin = parts;
    parts += sample.num_parts;
  }
}

}  // namespace

void AttentionPlan::clear() {
  samples.clear();
  parts.clear();
  key_rows.clear();
  query_rows.clear();
  visible_keys.clear();
  hidden_keys.clear();
  self_rows.clear();
  num_slots = 1;
  version = next_version();
}

void make_full_plan(AttentionPlan& plan, int64_t num_samples, int64_t queries_per_sample,
                    int64_t keys_per_sample) {
  plan.clear();
  for (int64_t b = 0; b < num_samples; ++b) {
    const int64_t query = b * queries_per_sample, key = b * keys_per_sample;
    open_sample(plan, query, queries_per_sample, key, keys_per_sample);
    PartWriter part(plan, AttentionPart::Kind::kSoftmax, 0);
    for (int64_t j = 0; j < keys_per_sample; ++j) part.key(key + j);
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
    PartWriter part(plan, AttentionPart::Kind::kSoftmax, 0);
    for (int64_t row = begin; row < begin + count; ++row) {
      part.key(row);
      part.query(row, part.num_keys());
    }
    part.close();
    close_sample(plan);
  }
}

void make_mmca_plan(AttentionPlan& plan, const std::vector<int32_t>& sample_begin,
                    const std::vector<TokenKind>& kinds, MmcaRule rule) {
  ASSERT(!sample_begin.empty() && sample_begin.back() == static_cast<int64_t>(kinds.size()),
         "{} token kinds do not match the samples' rows", kinds.size());
  plan.clear();
  plan.num_slots = 2;
  for (size_t b = 0; b + 1 < sample_begin.size(); ++b) {
    const int64_t begin = sample_begin[b], count = sample_begin[b + 1] - begin;
    open_sample(plan, begin, count, begin, count);
    add_mmca_parts(plan, Tokens{kinds, begin, begin + count}, rule);
    close_sample(plan);
  }
}

void limit_to_window(AttentionPlan& plan, int64_t window) {
  plan.hidden_keys.assign(plan.query_rows.size(), 0);
  filter_queries(plan, [&](const AttentionPart& part, size_t i) {
    ASSERT(part.kind == AttentionPart::Kind::kSoftmax, "a window over keys whose mean is taken");
    const auto keys = plan.key_rows.begin() + part.key_begin;
    const auto seen = std::upper_bound(keys, keys + plan.visible_keys[i],
                                       plan.query_rows[i] - static_cast<int32_t>(window));
    plan.hidden_keys[i] = to_row(seen - keys);
    return plan.hidden_keys[i] < plan.visible_keys[i];
  });
}

void keep_last_queries(AttentionPlan& plan, int64_t first) {
  ASSERT(plan.samples.size() == 1, "a cache holds one sample, the plan has {}",
         plan.samples.size());
  AttentionSample& sample = plan.samples[0];
  sample.num_query_rows -= first;
  filter_queries(plan, [&](const AttentionPart&, size_t i) {
    plan.query_rows[i] -= to_row(first);
    return plan.query_rows[i] >= 0;
  });
  // A row that adds its own v now has different indices in q and v: use a softmax over this one
  // key.
  for (const int32_t row : plan.self_rows) {
    if (row < first) continue;
    PartWriter part(plan, AttentionPart::Kind::kSoftmax, 1);
    part.key(row);
    part.query(row - first, 1);
    part.close();
  }
  plan.self_rows.clear();
  sample.num_self = 0;
  sample.num_parts = static_cast<int64_t>(plan.parts.size());
}

}  // namespace facet
