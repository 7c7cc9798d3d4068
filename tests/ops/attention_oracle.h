// Attention from dense masks, in plain loops: what the operator and its plans are held against.
// It knows nothing of plans. As in the original, a score has up to two finite masks on it: one
// swallows the score (all such entries of a row look alike), two leave nothing of the entry. So a
// row's softmax runs over its unmasked entries; where there are none, its once-masked entries share
// the weight equally.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "ops/attention_plan.h"
#include "tests/ops/op_test.h"

namespace facet::op_test {

enum class Rule { kCausal, kFull, kPublished, kVisualChat };

// How many masks cover an entry, (Nq, Nk).
using Masks = std::vector<uint8_t>;

// Kinds of the packed samples by position, one string a sample: 't' text, 'i' image.
using Samples = std::vector<std::string>;

// How the rows of a sample lie: by position, or its text before its images.
enum class Order { kByPosition, kByKind };

inline std::vector<int32_t> begins_of(const Samples& samples) {
  std::vector<int32_t> begins = {0};
  for (const std::string& sample : samples)
    begins.push_back(begins.back() + static_cast<int32_t>(sample.size()));
  return begins;
}

// The row of every position of the packed samples.
inline std::vector<int32_t> rows_of(const Samples& samples, Order order) {
  std::vector<int32_t> rows;
  int32_t begin = 0;
  for (const std::string& sample : samples) {
    int32_t text = begin;
    int32_t image = begin + static_cast<int32_t>(std::count(sample.begin(), sample.end(), 't'));
    for (const char c : sample)
      rows.push_back(c == 'i' && order == Order::kByKind ? image++ : text++);
    begin += static_cast<int32_t>(sample.size());
  }
  return rows;
}

constexpr int64_t kNoWindow = INT64_MAX;

inline AttentionPlan plan_of(const Samples& samples, Rule rule, Order order = Order::kByPosition,
                             int64_t window = kNoWindow) {
  const std::vector<int32_t> begins = begins_of(samples), rows = rows_of(samples, order);
  std::vector<TokenKind> kinds(rows.size());
  std::vector<int32_t> positions(rows.size());
  for (size_t b = 0; b < samples.size(); ++b)
    for (size_t i = 0; i < samples[b].size(); ++i) {
      const auto row = static_cast<size_t>(rows[static_cast<size_t>(begins[b]) + i]);
      kinds[row] = samples[b][i] == 'i' ? TokenKind::kImage : TokenKind::kText;
      positions[row] = static_cast<int32_t>(i);
    }
  AttentionPlan plan;
  const auto length = static_cast<int64_t>(samples.front().size());
  if (rule == Rule::kCausal)
    make_causal_plan(plan, begins);
  else if (rule == Rule::kFull)
    make_full_plan(plan, static_cast<int64_t>(samples.size()), length, length);
  else
    make_mmca_plan(plan, begins, kinds, positions,
                   rule == Rule::kPublished ? MmcaRule::kPublished : MmcaRule::kVisualChat);
  if (window == kNoWindow) return plan;
  AttentionPlan limited;
  limit_to_window(limited, plan, positions, window);
  return limited;
}

// Text keys (or all keys where the rule has one class), then image keys. A window hides the keys
// that are `window` positions or more before the query.
inline std::vector<Masks> masks_of(const Samples& samples, Rule rule,
                                   Order order = Order::kByPosition, int64_t window = kNoWindow) {
  const std::vector<int32_t> rows = rows_of(samples, order);
  const int64_t n = begins_of(samples).back();
  const bool mmca = rule == Rule::kPublished || rule == Rule::kVisualChat;
  std::vector<Masks> masks(mmca ? 2 : 1, Masks(static_cast<size_t>(n * n), 2));
  int64_t begin = 0;
  for (const std::string& sample : samples) {
    const int64_t length = static_cast<int64_t>(sample.size());
    const auto kind = [&](int64_t row) { return sample[static_cast<size_t>(row)]; };
    for (int64_t i = 0; i < length; ++i) {
      for (int64_t j = 0; j < length; ++j) {
        const auto entry = static_cast<size_t>(rows[static_cast<size_t>(begin + i)] * n +
                                               rows[static_cast<size_t>(begin + j)]);
        const int later = j > i && rule != Rule::kFull;
        if (i - j >= window) continue;
        if (!mmca) {
          masks[0][entry] = later ? 2 : 0;
          continue;
        }
        int text = kind(j) != 't', image = kind(j) != 'i';
        if (kind(i) == 'i') image = i != j;
        if (rule == Rule::kPublished && kind(i) == 'i') text = 1;
        masks[0][entry] = static_cast<uint8_t>(later + text);
        masks[1][entry] = static_cast<uint8_t>(later + image);
        // As published, an empty set gives nothing.
        if (rule == Rule::kPublished)
          for (Masks& mask : masks) mask[entry] = mask[entry] == 0 ? 0 : 2;
      }
    }
    begin += length;
  }
  return masks;
}

// Some of the query rows: singles and runs of rows of both kinds.
inline std::vector<int32_t> some_of(int64_t rows) {
  std::vector<int32_t> some;
  for (int32_t row = 0; row < rows; ++row)
    if (row % 7 == 2 || row % 5 > 2) some.push_back(row);
  return some;
}
inline AttentionPlan kept_of(const AttentionPlan& plan, const std::vector<int32_t>& rows) {
  AttentionPlan kept;
  keep_queries(kept, plan, rows);
  return kept;
}
// Of a plan of one sample the queries of its rows from `first` on, as in decoding.
inline AttentionPlan last_of(const AttentionPlan& plan, int64_t first) {
  std::vector<int32_t> rows;
  for (int64_t row = first; row < plan.samples.at(0).num_query_rows; ++row)
    rows.push_back(static_cast<int32_t>(row));
  return kept_of(plan, rows);
}
// Rows of a matrix (N, width).
template <typename T>
std::vector<T> rows_of(const std::vector<T>& matrix, const std::vector<int32_t>& rows,
                       int64_t width) {
  std::vector<T> result;
  for (const int64_t row : rows)
    result.insert(result.end(), matrix.begin() + row * width, matrix.begin() + (row + 1) * width);
  return result;
}
inline std::vector<Masks> rows_of(const std::vector<Masks>& masks, const std::vector<int32_t>& rows,
                                  int64_t num_keys) {
  std::vector<Masks> result;
  for (const Masks& mask : masks) result.push_back(rows_of(mask, rows, num_keys));
  return result;
}

struct Sizes {
  int64_t num_queries, num_keys, heads, kv_heads, width;  // Nq, Nk, H, G, E
  std::vector<int32_t> rows = {};  // of k and v that the queries are of; empty: the same as theirs

  float scale() const { return 1 / std::sqrt(static_cast<float>(width)); }
};

template <typename T>
struct AttentionResult {
  // (Nq, H*E); the masks' shares: out_text the first's, out_image the second's, text rows only.
  std::vector<T> out, out_text, out_image;
  std::vector<T> dq, dk, dv;
  // The same with every term, and both sides of dp - delta, by their size: what they round by, also
  // where all cancels (a row with one key has no dq).
  std::vector<T> dq_size, dk_size, dv_size;
};

template <typename T>
class AttentionOracle {
 public:
  AttentionOracle(const Sizes& sizes, const std::vector<Masks>& masks, const Values& q,
                  const Values& k, const Values& v)
      : s_(sizes), masks_(masks), q_(cast<T>(q)), k_(cast<T>(k)), v_(cast<T>(v)) {
    base_q_ = q_;
    base_k_ = k_;
  }

  // Swallowed scores count as score - score at these q and k, which makes the gradient that flows
  // through them the true one.
  void set_base(const Values& q, const Values& k) {
    base_q_ = cast<T>(q);
    base_k_ = cast<T>(k);
  }

  AttentionResult<T> run(const Values& dout_values) const {
    const std::vector<T> dout = cast<T>(dout_values);
    const size_t query_size = q_.size(), key_size = k_.size();
    AttentionResult<T> r;
    for (auto* of_queries : {&r.out, &r.out_text, &r.out_image, &r.dq, &r.dq_size})
      of_queries->resize(query_size);
    for (auto* of_keys : {&r.dk, &r.dv, &r.dk_size, &r.dv_size}) of_keys->resize(key_size);
    for (size_t m = 0; m < masks_.size(); ++m)
      for (int64_t h = 0; h < s_.heads; ++h)
        for (int64_t i = 0; i < s_.num_queries; ++i) run_row(r, m, h, i, dout);
    return r;
  }

 private:
  size_t query(int64_t row, int64_t head) const {
    return static_cast<size_t>((row * s_.heads + head) * s_.width);
  }
  size_t key(int64_t row, int64_t head) const {
    const int64_t kv_head = head / (s_.heads / s_.kv_heads);
    return static_cast<size_t>((row * s_.kv_heads + kv_head) * s_.width);
  }
  T product(const T* a, const T* b) const {
    T sum = 0;
    for (int64_t c = 0; c < s_.width; ++c) sum += a[c] * b[c];
    return sum;
  }

  void run_row(AttentionResult<T>& r, size_t m, int64_t h, int64_t i,
               const std::vector<T>& dout) const {
    const uint8_t* mask = &masks_[m][static_cast<size_t>(i * s_.num_keys)];
    const uint8_t least = *std::min_element(mask, mask + s_.num_keys);
    if (least == 2) return;
    const T scale = static_cast<T>(s_.scale());
    std::vector<int64_t> seen;
    std::vector<T> p;
    for (int64_t j = 0; j < s_.num_keys; ++j) {
      if (mask[j] != least) continue;
      T score = scale * product(&q_[query(i, h)], &k_[key(j, h)]);
      if (least == 1) score -= scale * product(&base_q_[query(i, h)], &base_k_[key(j, h)]);
      seen.push_back(j);
      p.push_back(score);
    }
    const T max = *std::max_element(p.begin(), p.end());
    T total = 0;
    for (T& x : p) total += x = std::exp(x - max);
    for (T& x : p) x /= total;

    const T* d = &dout[query(i, h)];
    T delta = 0;
    for (size_t n = 0; n < seen.size(); ++n) delta += p[n] * product(d, &v_[key(seen[n], h)]);
    // An image row's one-hot weight on itself is no image part in the operator's terms.
    const int64_t row = s_.rows.empty() ? i : s_.rows[static_cast<size_t>(i)];
    const bool own = least == 0 && seen.size() == 1 && seen[0] == row;
    for (size_t n = 0; n < seen.size(); ++n) {
      const size_t at = key(seen[n], h);
      const T dp = product(d, &v_[at]), ds = scale * p[n] * (dp - delta);
      const T ds_size = scale * p[n] * (std::abs(dp) + std::abs(delta));
      for (int64_t c = 0; c < s_.width; ++c) {
        const size_t e = static_cast<size_t>(c);
        r.out[query(i, h) + e] += p[n] * v_[at + e];
        if (m == 0) r.out_text[query(i, h) + e] += p[n] * v_[at + e];
        if (m == 1 && !own) r.out_image[query(i, h) + e] += p[n] * v_[at + e];
        r.dv[at + e] += p[n] * d[c];
        r.dv_size[at + e] += p[n] * std::abs(d[c]);
        r.dq[query(i, h) + e] += ds * k_[at + e];
        r.dk[at + e] += ds * q_[query(i, h) + e];
        r.dq_size[query(i, h) + e] += ds_size * std::abs(k_[at + e]);
        r.dk_size[at + e] += ds_size * std::abs(q_[query(i, h) + e]);
      }
    }
  }

  Sizes s_;
  const std::vector<Masks>& masks_;
  std::vector<T> q_, k_, v_, base_q_, base_k_;
};

// What out_part holds if the third statistic is `slots` (H,Nq): the smaller of a row's shares.
template <typename T>
std::vector<T> parts_in_slots(const AttentionResult<T>& r, const Sizes& s, const Values& slots) {
  constexpr T kNearlyEqual = T(1.01);
  std::vector<T> parts(r.out.size());
  for (int64_t h = 0; h < s.heads; ++h)
    for (int64_t row = 0; row < s.num_queries; ++row) {
      const double slot = slots[static_cast<size_t>(h * s.num_queries + row)];
      const std::vector<T>* share[] = {&r.out_text, &r.out_image};
      T size[2] = {0, 0};
      for (int64_t c = 0; c < s.width; ++c) {
        const auto at = static_cast<size_t>((row * s.heads + h) * s.width + c);
        for (int i : {0, 1}) size[i] += (*share[i])[at] * (*share[i])[at];
        if (slot >= 0) parts[at] = (*share[static_cast<int>(slot)])[at];
      }
      if (slot < 0) {
        EXPECT_EQ(size[0] + size[1], 0) << "row " << row;
      } else {
        const int mine = static_cast<int>(slot);
        EXPECT_TRUE(size[1 - mine] == 0 || size[mine] <= kNearlyEqual * size[1 - mine])
            << "row " << row << ", head " << h << ": " << size[mine] << ", " << size[1 - mine];
      }
    }
  return parts;
}

}  // namespace facet::op_test
