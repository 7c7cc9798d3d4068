// Attention of the last rows of several conversations, as in decoding: it takes ways of its own,
// and its rows must not depend on what they are computed together with.
#include <gtest/gtest.h>

#include "kernels/cpu/backend.h"
#include "tests/ops/attention_oracle.h"
#include "tests/ops/half_operands.h"

namespace facet::op_test {
namespace {

struct Conversations {
  const char* name;
  Rule rule;
  Order order = Order::kByPosition;
  int64_t window = kNoWindow;
  int64_t heads = 4, kv_heads = 2, width = 24;
};

std::string piece(int64_t n, char kind) { return std::string(static_cast<size_t>(n), kind); }

// Lengths around a tile of keys; the last rows are text.
const Samples kSamples = {piece(9, 't') + piece(17, 'i') + piece(30, 't'), piece(2, 't'),
                          piece(150, 't') + piece(90, 'i') + piece(60, 't'), piece(257, 't'),
                          piece(5, 'i') + piece(8, 't')};
// Of each sample.
const std::vector<int64_t> kLastRows = {1, 1, 3, 1, 2};

class AttentionOfFewQueries : public testing::TestWithParam<Conversations> {
 protected:
  // The last `counts` positions of the samples.
  static std::vector<int32_t> last_rows(const Samples& samples, const std::vector<int64_t>& counts,
                                        Order order) {
    const std::vector<int32_t> begins = begins_of(samples), row_of = rows_of(samples, order);
    std::vector<int32_t> rows;
    for (size_t b = 0; b < samples.size(); ++b)
      for (int64_t i = counts[b]; i > 0; --i)
        rows.push_back(row_of[static_cast<size_t>(begins[b + 1] - i)]);
    std::sort(rows.begin(), rows.end());
    return rows;
  }
  AttentionPlan plan_of_last(const Samples& samples, const std::vector<int64_t>& counts) const {
    AttentionPlan kept;
    keep_queries(kept, plan_of(samples, c_.rule, c_.order, c_.window),
                 last_rows(samples, counts, c_.order));
    return kept;
  }
  int64_t query_width() const { return c_.heads * c_.width; }
  int64_t key_width() const { return c_.kv_heads * c_.width; }

  // The outputs for rows [first_query, ...) of q_ and the keys from first_key on.
  struct Outputs {
    Outputs(int64_t rows, int64_t query_width, const AttentionPlan& plan, int64_t heads)
        : out(rows, query_width, 3),
          part(rows, query_width),
          lse(1, plan.num_statistics() * heads * rows) {}
    Matrix out, part, lse;
  };
  void attend(Outputs& y, const AttentionPlan& plan, Tensor q, Tensor k, Tensor v,
              int threads = 2) const {
    CpuBackend ops(threads);
    ops.attention_forward(y.out.tensor(),
                          y.lse.tensor().view({plan.num_statistics(), c_.heads, q.rows()}),
                          plan.num_slots == 2 ? y.part.tensor() : Tensor(), q, k, v, plan, c_.heads,
                          c_.kv_heads, 0.2f);
  }

  const Conversations c_ = GetParam();
  const int64_t keys_ = begins_of(kSamples).back();
  const AttentionPlan plan_ = plan_of_last(kSamples, kLastRows);
  const std::vector<int32_t> rows_ = last_rows(kSamples, kLastRows, c_.order);
  const int64_t queries_ = static_cast<int64_t>(rows_.size());
  const Values all_q_ = random_values(keys_ * query_width(), "q"),
               k_ = random_values(keys_ * key_width(), "k"),
               v_ = random_values(keys_ * key_width(), "v");

  Values rows_of_all(const Values& all) const {
    Values some;
    for (const int32_t row : rows_)
      some.insert(some.end(), all.begin() + row * query_width(),
                  all.begin() + (row + 1) * query_width());
    return some;
  }
};

TEST_P(AttentionOfFewQueries, IsThatOfTheWholeConversation) {
  const Sizes sizes{keys_, keys_, c_.heads, c_.kv_heads, c_.width};
  const std::vector<Masks> masks = masks_of(kSamples, c_.rule, c_.order, c_.window);
  Values scaled = all_q_;  // the oracle's scale is 1 / sqrt(E)
  for (double& x : scaled) x *= 0.2f / static_cast<double>(sizes.scale());
  const Values none(all_q_.size(), 0);
  const Values expected = AttentionOracle<double>(sizes, masks, scaled, k_, v_).run(none).out;
  const std::vector<float> naive =
      AttentionOracle<float>(sizes, masks, scaled, k_, v_).run(none).out;
  Matrix q(queries_, query_width(), rows_of_all(all_q_)), k(keys_, key_width(), k_, 3),
      v(keys_, key_width(), v_, 1);
  Outputs y(queries_, query_width(), plan_, c_.heads);
  attend(y, plan_, q.tensor(), k.tensor(), v.tensor());
  expect_as_good_as(y.out.values(), rows_of_all(expected),
                    cast<float>(rows_of_all(cast<double>(naive))));
}

// Whatever other conversations are beside it, and however many threads share the work.
TEST_P(AttentionOfFewQueries, AConversationIsTheSameAlone) {
  Matrix q(queries_, query_width(), rows_of_all(all_q_)), k(keys_, key_width(), k_),
      v(keys_, key_width(), v_);
  Outputs together(queries_, query_width(), plan_, c_.heads);
  attend(together, plan_, q.tensor(), k.tensor(), v.tensor());
  const std::vector<int32_t> begins = begins_of(kSamples);
  int64_t query = 0;
  for (size_t b = 0; b < kSamples.size(); ++b) {
    const AttentionPlan plan = plan_of_last({kSamples[b]}, {kLastRows[b]});
    const int64_t length = static_cast<int64_t>(kSamples[b].size());
    for (const int threads : {1, 5}) {
      Outputs alone(kLastRows[b], query_width(), plan, c_.heads);
      attend(alone, plan, q.tensor().row_block(query, kLastRows[b]),
             k.tensor().row_block(begins[b], length), v.tensor().row_block(begins[b], length),
             threads);
      for (int64_t r = 0; r < kLastRows[b]; ++r)
        for (int64_t c = 0; c < query_width(); ++c)
          ASSERT_EQ(alone.out.at(r, c), together.out.at(query + r, c))
              << "conversation " << b << ", " << threads << " threads";
    }
    query += kLastRows[b];
  }
}

// A cache in 16 bits gives the bits of the same numbers in fp32; so do all rows of a prompt.
TEST_P(AttentionOfFewQueries, KeysIn16BitsAreReadAsTheyAre) {
  const AttentionPlan whole = plan_of(kSamples, c_.rule, c_.order, c_.window);
  Matrix all_q(keys_, query_width(), all_q_), q(queries_, query_width(), rows_of_all(all_q_));
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    StoredMatrix k(keys_, key_width(), 5, dtype), v(keys_, key_width(), 0, dtype);
    k.set(k_);
    v.set(v_);
    Matrix wide_k(keys_, key_width(), k.values()), wide_v(keys_, key_width(), v.values());
    for (const bool few : {true, false}) {
      const AttentionPlan& plan = few ? plan_ : whole;
      const Tensor queries = few ? q.tensor() : all_q.tensor();
      Outputs stored(queries.rows(), query_width(), plan, c_.heads),
          wide(queries.rows(), query_width(), plan, c_.heads);
      attend(stored, plan, queries, k.tensor(), v.tensor());
      attend(wide, plan, queries, wide_k.tensor(), wide_v.tensor());
      EXPECT_TRUE(stored.out.same_bits(wide.out)) << name_of(dtype) << ", few: " << few;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Ops, AttentionOfFewQueries,
    testing::Values(
        Conversations{"causal", Rule::kCausal},
        Conversations{"one_key_head", Rule::kCausal, Order::kByPosition, kNoWindow, 6, 1, 16},
        Conversations{"no_groups", Rule::kCausal, Order::kByPosition, kNoWindow, 3, 3, 17},
        Conversations{"more_heads_than_a_block", Rule::kCausal, Order::kByPosition, kNoWindow, 70,
                      1, 8},
        Conversations{"window", Rule::kCausal, Order::kByPosition, 40},
        Conversations{"mmca", Rule::kPublished},
        Conversations{"mmca_by_kind", Rule::kPublished, Order::kByKind},
        Conversations{"mmca_window", Rule::kPublished, Order::kByPosition, 70},
        Conversations{"visualchat", Rule::kVisualChat}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace facet::op_test
