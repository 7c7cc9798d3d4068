// Attention over a pool of rows against each sequence by itself.
#include "ops/pool_plan.h"

#include <gtest/gtest.h>

#include "base/check.h"
#include "kernels/cpu/backend.h"
#include "tests/ops/attention_oracle.h"

namespace facet::op_test {
namespace {

constexpr int64_t kHeads = 4, kKvHeads = 2, kWidth = 16;

// Some last queries of a sequence, and where its rows lie in the pool.
struct Sequence {
  std::string tokens;
  int64_t first;
  std::vector<RowRange> places;
};

using Floats = std::vector<float>;

Floats random_floats(int64_t n, const std::string& name) {
  const Values values = random_values(n, name);
  return {values.begin(), values.end()};
}

Tensor matrix(Floats& values, int64_t rows, int64_t heads) {
  return Tensor(values.data(), {rows, heads * kWidth}, DType::kF32);
}

Floats attend(const AttentionPlan& plan, Floats q, Floats k, Floats v) {
  CpuBackend ops(1);
  const int64_t rows = static_cast<int64_t>(q.size()) / (kHeads * kWidth);
  const int64_t keys = static_cast<int64_t>(k.size()) / (kKvHeads * kWidth);
  Floats out(q.size()), part(q.size());
  Floats lse(static_cast<size_t>(plan.num_statistics() * kHeads * rows));
  ops.attention_forward(matrix(out, rows, kHeads),
                        Tensor(lse.data(), {plan.num_statistics(), kHeads, rows}, DType::kF32),
                        plan.num_slots == 2 ? matrix(part, rows, kHeads) : Tensor(),
                        matrix(q, rows, kHeads), matrix(k, keys, kKvHeads),
                        matrix(v, keys, kKvHeads), plan, kHeads, kKvHeads, 0.25f);
  return out;
}

std::vector<int32_t> rows_in(const Sequence& sequence) {
  std::vector<int32_t> rows;
  for (const RowRange& place : sequence.places)
    for (int32_t row = place.first; row < place.end(); ++row) rows.push_back(row);
  rows.resize(sequence.tokens.size());
  return rows;
}

// The same bits: neither where keys lie nor what else is in the plan is in a sum.
void expect_each_as_by_itself(const std::vector<Sequence>& sequences, int64_t pool_rows, Rule rule,
                              int64_t window) {
  const Floats k = random_floats(pool_rows * kKvHeads * kWidth, "k");
  const Floats v = random_floats(pool_rows * kKvHeads * kWidth, "v");
  AttentionPlan pool;
  PoolPlanWriter writer;
  writer.begin(pool, pool_rows, rule == Rule::kCausal ? 1 : 2);
  Floats q, expected;
  for (const Sequence& sequence : sequences) {
    const AttentionPlan plan =
        last_of(plan_of({sequence.tokens}, rule, Order::kByPosition, window), sequence.first);
    writer.add(pool, plan, sequence.places);
    const int64_t rows = plan.samples[0].num_query_rows;
    const Floats mine = random_floats(rows * kHeads * kWidth, sequence.tokens);
    const std::vector<int32_t> keys = rows_in(sequence);
    const Floats out = attend(plan, mine, rows_of(k, keys, kKvHeads * kWidth),
                              rows_of(v, keys, kKvHeads * kWidth));
    q.insert(q.end(), mine.begin(), mine.end());
    expected.insert(expected.end(), out.begin(), out.end());
  }
  EXPECT_EQ(attend(pool, q, k, v), expected) << static_cast<int>(rule) << ", window " << window;
}

// Pages of 4 rows; the second and the third sequence share their first page.
const std::vector<Sequence> kSequences = {{"ttiitittt", 8, {{8, 4}, {0, 8}}},
                                          {"tttttiiit", 4, {{16, 4}, {24, 8}}},
                                          {"tttttit", 4, {{16, 4}, {12, 4}}},
                                          {"iitt", 0, {{20, 4}}}};

TEST(PoolPlan, EachSequenceIsAsByItself) {
  for (const Rule rule : {Rule::kCausal, Rule::kPublished, Rule::kVisualChat})
    expect_each_as_by_itself(kSequences, 32, rule, kNoWindow);
  for (const Rule rule : {Rule::kCausal, Rule::kPublished})
    expect_each_as_by_itself(kSequences, 32, rule, 3);
}

TEST(PoolPlan, HasNoBackwardPass) {
  CpuBackend ops(1);
  AttentionPlan plan;
  PoolPlanWriter writer;
  writer.begin(plan, 4, 1);
  writer.add(plan, plan_of({"tt"}, Rule::kCausal), std::vector<RowRange>{{2, 2}});
  Floats q(2 * kHeads * kWidth), k(4 * kKvHeads * kWidth), lse(2 * kHeads);
  const Tensor tq = matrix(q, 2, kHeads), tk = matrix(k, 4, kKvHeads);
  EXPECT_THROW(ops.attention_backward(tq, tk, tk, tq, tq, tk, tk, tq, Tensor(),
                                      Tensor(lse.data(), {1, kHeads, 2}, DType::kF32), Rotation(),
                                      Rotation(), plan, kHeads, kKvHeads, 0.25f),
               Error);
}

TEST(PoolPlan, ARowWithoutAPlaceIsRefused) {
  AttentionPlan plan;
  PoolPlanWriter writer;
  writer.begin(plan, 8, 1);
  EXPECT_THROW(writer.add(plan, plan_of({"ttttt"}, Rule::kCausal), std::vector<RowRange>{{0, 4}}),
               Error);
}

}  // namespace
}  // namespace facet::op_test
