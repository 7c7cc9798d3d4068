// The work list of an attention operator: which query rows see which key rows, and how. Built once
// per batch on the host; full, causal, packed variable-length and multi-modal causal attention
// (MMCA) differ only in their plans.
//
// Every key has one class, so MMCA is a sum of ordinary attentions over disjoint key lists in which
// a query sees a prefix of the list. No mask is ever built; memory is linear in the number of
// tokens.
#pragma once

#include <cstdint>
#include <vector>

namespace facet {

// Attention kind of a position of the spliced sequence.
enum class TokenKind : uint8_t { kText = 1, kImage = 2 };

// One softmax (or one plain mean) of some query rows over prefixes of one key list.
struct AttentionPart {
  enum class Kind : uint8_t {
    kSoftmax,  // P = softmax of scale q.k over the visible keys
    kMean,     // P = 1/n; its gradient still flows to q and k as if P were a softmax (--compat
               // visualchat; docs/computes.md, "Attention")
  };
  Kind kind = Kind::kSoftmax;
  int slot = 0;  // 0: text keys (or all keys), 1: image keys; a row has at most one part per slot
  int64_t key_begin = 0;  // its keys: plan.key_rows[key_begin, key_begin + num_keys)
  int64_t num_keys = 0;
  int64_t query_begin =
      0;  // its queries: plan.query_rows and plan.visible_keys [query_begin, + num_queries)
  int64_t num_queries = 0;
};

// The parts of one sample; samples share no query row and no key row, so they may run in parallel.
struct AttentionSample {
  int64_t part_begin = 0, num_parts = 0;
  int64_t self_begin = 0,
          num_self = 0;  // plan.self_rows: rows that add their own v (weight exactly 1)
  int64_t query_row_begin = 0,
          num_query_rows = 0;                   // all rows of q and out that belong to the sample
  int64_t key_row_begin = 0, num_key_rows = 0;  // all rows of k and v that belong to it
};

struct AttentionPlan {
  std::vector<AttentionSample> samples;
  std::vector<AttentionPart> parts;
  std::vector<int32_t> key_rows;      // rows of k and v
  std::vector<int32_t> query_rows;    // rows of q and out, increasing within a part
  std::vector<int32_t> visible_keys;  // per query_rows entry: length of the visible prefix, >= 1,
                                      // non-decreasing within a part
  // Per query_rows entry: how many keys at the front of that prefix lie before the query's window
  // and are not seen; below visible_keys, non-decreasing within a part. Empty: no window anywhere.
  std::vector<int32_t> hidden_keys;
  std::vector<int32_t> self_rows;  // rows of q, k, v alike, in at most one part each
  int num_slots = 1;               // 2: the op also writes a part of the output separately

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
// The same with two classes of keys; `kinds` has one entry per row.
void make_mmca_plan(AttentionPlan& plan, const std::vector<int32_t>& sample_begin,
                    const std::vector<TokenKind>& kinds, MmcaRule rule);
// A sliding window: of the keys that a query row i has in a plan made by the two functions above,
// it keeps those of the rows j > i - window, whatever their kind. A row that keeps no key of a part
// is taken out of it. Not for plans with means (MmcaRule::kVisualChat).
void limit_to_window(AttentionPlan& plan, int64_t window);
// Decoding with a key/value cache: reduces the plan of one sample of rows 0..L-1 to its last rows.
// q and out then hold only rows first..L-1, counted from 0; k and v hold all of them.
void keep_last_queries(AttentionPlan& plan, int64_t first);

}  // namespace facet
