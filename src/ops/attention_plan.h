// The work list of an attention operator: which query rows see which key rows, and how. Built once
// per batch on the host; full, causal, packed variable-length and multi-modal causal attention
// (MMCA) differ only in their plans.
//
// Every key has one class, so MMCA is a sum of ordinary attentions over disjoint lists of keys in
// which a query sees a prefix of the list, or the end of one if it has a window. Lists are ranges
// of rows: one range where a sample's rows are sorted by class (model/splice.h), several in a cache
// that has grown piece by piece. No mask is ever built; memory is linear in the number of tokens.
#pragma once

#include <cstdint>
#include <vector>

namespace facet {

// Attention kind of a position of the spliced sequence.
enum class TokenKind : uint8_t { kText = 1, kImage = 2 };

// Rows [first, first + count) of a matrix.
struct RowRange {
  int32_t first = 0, count = 0;

  int32_t end() const { return first + count; }
  bool operator==(const RowRange&) const = default;
};

// One softmax (or one plain mean) of a range of query rows over prefixes of one list of keys.
struct AttentionPart {
  enum class Kind : uint8_t {
    kSoftmax,  // P = softmax of scale q.k over the visible keys
    kMean,     // P = 1/n; its gradient still flows to q and k as if P were a softmax (--compat
               // visualchat; docs/computes.md, "Attention")
  };
  Kind kind = Kind::kSoftmax;
  int slot = 0;  // 0: text keys (or all keys), 1: image keys; a row has at most one part per slot
  // Its keys, rows of k and v: the first num_keys rows of the ranges from
  // plan.key_ranges[key_begin] on, one after the other. They are all in that first range, but for
  // means over both classes and for rows that are not sorted.
  int64_t key_begin = 0;
  int64_t num_keys = 0;  // as many as its last query sees
  RowRange queries;      // rows of q and out
  // Per query the length of the prefix it sees: plan.visible_keys[visible_begin, + queries.count).
  int64_t visible_begin = 0;
};

// Rows that add their own v (weight exactly 1): row `query` + i of out takes row `key` + i of v.
struct SelfRows {
  int32_t query = 0, key = 0, count = 0;

  bool operator==(const SelfRows&) const = default;
};

// The parts of one sample; samples share no query row, so they may run in parallel. They share no
// key row either, so that their gradients may, unless the plan is one over a pool of rows.
struct AttentionSample {
  int64_t part_begin = 0, num_parts = 0;
  int64_t self_begin = 0, num_self = 0;  // plan.self_rows[self_begin, + num_self)
  int64_t query_row_begin = 0,
          num_query_rows = 0;  // all rows of q and out that belong to the sample
  // All rows of k and v that belong to it; none, if they are in a pool.
  int64_t key_row_begin = 0, num_key_rows = 0;
};

struct AttentionPlan {
  std::vector<AttentionSample> samples;
  std::vector<AttentionPart> parts;
  std::vector<RowRange> key_ranges;   // of each sample in turn; parts share them
  std::vector<int32_t> visible_keys;  // >= 1, non-decreasing within a part
  // Beside visible_keys, or empty where there is no window: how many keys at the front of a query's
  // prefix lie before its window and are not seen; fewer than visible, non-decreasing within a
  // part.
  std::vector<int32_t> hidden_keys;
  std::vector<SelfRows> self_rows;  // in increasing order of rows, each in at most one part
  int num_slots = 1;                // 2: the op also writes a part of the output separately
  bool some_queries = false;        // made by keep_queries() from a plan of more query rows
  // Above 0: k and v have so many rows, of which samples may share some (ops/pool_plan.h). Such a
  // plan has a forward pass only.
  int64_t pool_rows = 0;

  // Identifies the content: every function below that makes or changes a plan assigns a new
  // version, unique in the process. 0: not made by them. Backends cache by it what they derive from
  // a plan.
  uint64_t version = 0;

  void clear();
  // What forward keeps of a row in each head for backward: the log-sum-exp of each slot, and with
  // two slots the slot of the part that it has written separately.
  int num_statistics() const { return num_slots == 2 ? 3 : num_slots; }
};

enum class MmcaRule {
  kPublished,   // text: softmax over images + softmax over text; image: itself only
  kVisualChat,  // the original's: image queries read earlier text too; empty sides become a mean
                // (docs/computes.md, "Attention")
};

// Every query of sample b sees every key of sample b (CLIP, perceiver).
void make_full_plan(AttentionPlan& plan, int64_t num_samples, int64_t queries_per_sample,
                    int64_t keys_per_sample);
// Sample b owns rows [sample_begin[b], sample_begin[b+1]) of q, k and v; query i sees keys j <= i.
void make_causal_plan(AttentionPlan& plan, const std::vector<int32_t>& sample_begin);
// The same with two classes of keys. Per row: its kind, and its position in its sample, by which
// "earlier" is decided. Rows lie in any order in which the positions of a class increase; each
// stretch of text rows and the image rows that follow it get parts of their own.
void make_mmca_plan(AttentionPlan& plan, const std::vector<int32_t>& sample_begin,
                    const std::vector<TokenKind>& kinds, const std::vector<int32_t>& positions,
                    MmcaRule rule);
// A sliding window: of the keys that a query has in a plan made by the two functions above, it
// keeps those at the positions j > i - window, i being its own, whatever their kind. A query that
// keeps no key of a part is taken out of it, which may cut the part in two. `positions`: of each
// row in its sample, as above. Not for plans with means (MmcaRule::kVisualChat).
void limit_to_window(AttentionPlan& limited, const AttentionPlan& plan,
                     const std::vector<int32_t>& positions, int64_t window);
// A plan of some of the query rows: q and out then hold only `rows`, counted from 0; k and v hold
// all of theirs. `rows`: increasing, of the query rows of `plan`, whose samples follow one another.
void keep_queries(AttentionPlan& kept, const AttentionPlan& plan, const std::vector<int32_t>& rows);

}  // namespace facet
