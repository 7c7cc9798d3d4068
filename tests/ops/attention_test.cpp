#include <gtest/gtest.h>

#include <memory>

#include "kernels/cpu/backend.h"
#include "tests/ops/attention_oracle.h"

namespace facet::op_test {
namespace {

std::string text(int64_t n) { return std::string(static_cast<size_t>(n), 't'); }
std::string image(int64_t n) { return std::string(static_cast<size_t>(n), 'i'); }

// The operator on column blocks of one packed matrix q|k|v, outputs NaN before.
class Attention {
 public:
  Attention(const Sizes& sizes, const AttentionPlan& plan, const Values& q, const Values& k,
            const Values& v, int threads = 2)
      : s_(sizes),
        plan_(plan),
        backend_(threads),
        q_(s_.num_queries, query_width(), q, 5),
        kv_(s_.num_keys, 2 * key_width()),
        out_(s_.num_queries, query_width(), 3),
        out_part_(s_.num_queries, query_width(), 1),
        lse_(1, plan.num_statistics() * s_.heads * s_.num_queries),
        dq_(s_.num_queries, query_width(), 2),
        dkv_(s_.num_keys, 2 * key_width()) {
    for (int64_t j = 0; j < s_.num_keys; ++j) {
      for (int64_t c = 0; c < key_width(); ++c) {
        kv_.at(j, c) = static_cast<float>(k[static_cast<size_t>(j * key_width() + c)]);
        kv_.at(j, key_width() + c) =
            static_cast<float>(v[static_cast<size_t>(j * key_width() + c)]);
      }
    }
  }

  void forward() {
    backend_.attention_forward(out_.tensor(), lse(), out_part(), q_.tensor(), keys(kv_),
                               values(kv_), plan_, s_.heads, s_.kv_heads, s_.scale());
  }
  void backward(const Values& dout_values) {
    Matrix dout(s_.num_queries, query_width(), dout_values, 7);
    backend_.attention_backward(dq_.tensor(), keys(dkv_), values(dkv_), dout.tensor(), q_.tensor(),
                                keys(kv_), values(kv_), out_.tensor(), out_part(), lse(),
                                Rotation(), Rotation(), plan_, s_.heads, s_.kv_heads, s_.scale());
  }

  Values out() const { return out_.values(); }
  Values out_part_values() const { return out_part_.values(); }
  // The third statistic, (H,Nq).
  Values slots_of_parts() const {
    const Values statistics = lse_.values();
    return {statistics.end() - s_.heads * s_.num_queries, statistics.end()};
  }
  Values dq() const { return dq_.values(); }
  Values dk() const { return half(0); }
  Values dv() const { return half(key_width()); }
  const OpCounts& counts() const { return backend_.counts(); }
  bool same_bits(const Attention& other) const {
    return out_.same_bits(other.out_) && dq_.same_bits(other.dq_) && dkv_.same_bits(other.dkv_) &&
           (plan_.num_slots == 1 || out_part_.same_bits(other.out_part_));
  }

 private:
  int64_t query_width() const { return s_.heads * s_.width; }
  int64_t key_width() const { return s_.kv_heads * s_.width; }
  Tensor keys(Matrix& kv) { return kv.tensor().column_block(0, key_width()); }
  Tensor values(Matrix& kv) { return kv.tensor().column_block(key_width(), key_width()); }
  Tensor lse() { return lse_.tensor().view({plan_.num_statistics(), s_.heads, s_.num_queries}); }
  Tensor out_part() { return plan_.num_slots == 2 ? out_part_.tensor() : Tensor(); }
  Values half(int64_t begin) const {
    Values result;
    for (int64_t j = 0; j < s_.num_keys; ++j)
      for (int64_t c = 0; c < key_width(); ++c) result.push_back(dkv_.at(j, begin + c));
    return result;
  }

  Sizes s_;
  const AttentionPlan& plan_;
  CpuBackend backend_;
  Matrix q_, kv_, out_, out_part_, lse_, dq_, dkv_;
};

struct Inputs {
  explicit Inputs(const Sizes& s)
      : q(random_values(s.num_queries * s.heads * s.width, "q")),
        k(random_values(s.num_keys * s.kv_heads * s.width, "k")),
        v(random_values(s.num_keys * s.kv_heads * s.width, "v")),
        dout(random_values(s.num_queries * s.heads * s.width, "dout")) {}
  Values q, k, v, dout;
};

double norm(const Values& x) { return std::sqrt(dot(x, x)); }

// As expect_as_good_as, but with rounding by the size of what cancels: measured up to 2.5e-7 of it,
// with a single key.
void expect_gradient(const Values& actual, const Values& expected, const std::vector<float>& naive,
                     const Values& size) {
  constexpr double kRounding = 4e-7;
  Values ours = actual, theirs = cast<double>(naive);
  for (size_t i = 0; i < expected.size(); ++i) {
    ours[i] -= expected[i];
    theirs[i] -= expected[i];
  }
  EXPECT_LE(norm(ours), 2 * norm(theirs) + kRounding * norm(size));
}

// Forward and backward against the oracle.
void expect_right(const Sizes& sizes, const AttentionPlan& plan, const std::vector<Masks>& masks) {
  const Inputs in(sizes);
  const auto expected = AttentionOracle<double>(sizes, masks, in.q, in.k, in.v).run(in.dout);
  const auto naive = AttentionOracle<float>(sizes, masks, in.q, in.k, in.v).run(in.dout);
  Attention attention(sizes, plan, in.q, in.k, in.v);
  attention.forward();
  attention.backward(in.dout);
  expect_as_good_as(attention.out(), expected.out, naive.out);
  if (plan.num_slots == 2)
    expect_as_good_as(attention.out_part_values(),
                      parts_in_slots(expected, sizes, attention.slots_of_parts()),
                      parts_in_slots(naive, sizes, attention.slots_of_parts()));
  expect_gradient(attention.dq(), expected.dq, naive.dq, expected.dq_size);
  expect_gradient(attention.dk(), expected.dk, naive.dk, expected.dk_size);
  expect_gradient(attention.dv(), expected.dv, naive.dv, expected.dv_size);
}

void expect_right(const Samples& samples, Rule rule, int64_t heads, int64_t kv_heads, int64_t width,
                  Order order = Order::kByPosition, int64_t window = kNoWindow) {
  const int64_t rows = begins_of(samples).back();
  SCOPED_TRACE("rule " + std::to_string(static_cast<int>(rule)) + ", order " +
               std::to_string(static_cast<int>(order)) + ", " + std::to_string(rows) +
               " rows, first sample " + samples.front().substr(0, 40) + ", H " +
               std::to_string(heads) + ", G " + std::to_string(kv_heads) + ", E " +
               std::to_string(width));
  expect_right({rows, rows, heads, kv_heads, width}, plan_of(samples, rule, order, window),
               masks_of(samples, rule, order, window));
}

const Samples kPatterns = {
    text(9) + image(17) + text(30) + image(5) + text(40),  // mixed
    image(17) + text(20),
    text(33),
    text(1) + image(30) + text(2),
    text(70) + image(70) + image(70) + text(3),  // text before the first image, images in a row
    image(20),
    text(1),
    image(1),
    image(1) + text(1),
};

// ---- the oracle itself

TEST(AttentionOracle, GradientsAreThoseOfFiniteDifferences) {
  const Samples samples = {text(2) + image(2) + text(2), image(2) + text(2), text(2)};
  const int64_t rows = begins_of(samples).back();
  const Sizes sizes{rows, rows, 2, 1, 3};
  for (const Rule rule : {Rule::kCausal, Rule::kFull, Rule::kPublished, Rule::kVisualChat}) {
    const std::vector<Masks> masks = masks_of(samples, rule);
    Inputs in(sizes);
    const auto gradients = AttentionOracle<double>(sizes, masks, in.q, in.k, in.v).run(in.dout);
    const Values base_q = in.q, base_k = in.k;
    const auto functional = [&] {
      AttentionOracle<double> oracle(sizes, masks, in.q, in.k, in.v);
      oracle.set_base(base_q, base_k);
      return dot(oracle.run(in.dout).out, in.dout);
    };
    EXPECT_LT(relative_error(gradients.dq, finite_differences(in.q, functional)), 1e-8);
    EXPECT_LT(relative_error(gradients.dk, finite_differences(in.k, functional)), 1e-8);
    EXPECT_LT(relative_error(gradients.dv, finite_differences(in.v, functional)), 1e-8);
  }
}

// ---- against it

TEST(Attention, CausalOfEveryLength) {
  for (const int64_t length : {1, 7, 97, 257})
    expect_right(Samples{text(length)}, Rule::kCausal, 2, 1, 64);
}

TEST(Attention, CausalOverSeveralTilesOfKeys) {
  expect_right(Samples{text(600)}, Rule::kCausal, 1, 1, 16);
}

TEST(Attention, CausalOfPackedSamples) {
  expect_right(Samples{text(7), text(97), text(1), text(66)}, Rule::kCausal, 4, 2, 64);
}

TEST(Attention, EveryWidthAndGrouping) {
  const Samples samples = {text(20) + image(25) + text(25)};
  for (const Rule rule : {Rule::kCausal, Rule::kVisualChat}) {
    for (const int64_t width : {8, 64, 72, 80, 104, 128}) {
      expect_right(samples, rule, 4, 4, width);
      expect_right(samples, rule, 4, 2, width);
      expect_right(samples, rule, 6, 1, width);
    }
  }
}

TEST(Attention, FullOfEveryLength) {
  for (const int64_t length : {1, 7, 97, 257})
    expect_right(Samples{text(length), text(length)}, Rule::kFull, 2, 2, 64);
}

// As in a resampler: other numbers of queries than of keys.
TEST(Attention, FullWithFewerQueriesThanKeys) {
  for (const int64_t queries : {2, 64}) {
    const Sizes sizes{2 * queries, 2 * 97, 4, 4, 64};
    AttentionPlan plan;
    make_full_plan(plan, 2, queries, 97);
    std::vector<Masks> masks(1, Masks(static_cast<size_t>(sizes.num_queries * sizes.num_keys), 2));
    for (int64_t i = 0; i < sizes.num_queries; ++i)
      for (int64_t j = 0; j < 97; ++j)
        masks[0][static_cast<size_t>(i * sizes.num_keys + i / queries * 97 + j)] = 0;
    expect_right(sizes, plan, masks);
  }
}

TEST(Attention, MmcaOfEveryPattern) {
  for (const Rule rule : {Rule::kPublished, Rule::kVisualChat})
    for (const Order order : {Order::kByPosition, Order::kByKind})
      for (const std::string& pattern : kPatterns)
        expect_right(Samples{pattern}, rule, 2, 2, 64, order);
}

TEST(Attention, MmcaOfPackedSamples) {
  for (const Rule rule : {Rule::kPublished, Rule::kVisualChat})
    for (const Order order : {Order::kByPosition, Order::kByKind})
      expect_right(kPatterns, rule, 2, 1, 16, order);
}

TEST(Attention, MmcaOverSeveralTilesOfKeys) {
  const Samples samples = {text(150) + image(290) + text(200), image(270) + text(3)};
  for (const Rule rule : {Rule::kPublished, Rule::kVisualChat})
    for (const Order order : {Order::kByPosition, Order::kByKind})
      expect_right(samples, rule, 1, 1, 16, order);
}

// Windows that begin within a tile of keys and tiles before them; with 300, blocks of queries of
// which the last see nothing of their first tile.
TEST(Attention, AWindowOverSeveralTilesOfKeys) {
  const Samples samples = {text(150) + image(290) + text(300), text(40)};
  for (const int64_t window : {1, 30, 300})
    for (const auto& [rule, order] : {std::pair(Rule::kCausal, Order::kByPosition),
                                      std::pair(Rule::kPublished, Order::kByPosition),
                                      std::pair(Rule::kPublished, Order::kByKind)}) {
      SCOPED_TRACE("window " + std::to_string(window));
      expect_right(samples, rule, 2, 1, 16, order, window);
    }
}

// The largest score is 100 above the others: without the maximum taken off, exp overflows.
TEST(Attention, LargeScoresStayExact) {
  const Samples samples = {text(300)};
  const Sizes sizes{300, 300, 1, 1, 16};
  Inputs in(sizes);
  for (double& x : in.q) x *= 32;
  const std::vector<Masks> masks = masks_of(samples, Rule::kCausal);
  const auto expected = AttentionOracle<double>(sizes, masks, in.q, in.k, in.v).run(in.dout);
  const auto naive = AttentionOracle<float>(sizes, masks, in.q, in.k, in.v).run(in.dout);
  const AttentionPlan plan = plan_of(samples, Rule::kCausal);
  Attention attention(sizes, plan, in.q, in.k, in.v);
  attention.forward();
  attention.backward(in.dout);
  expect_as_good_as(attention.out(), expected.out, naive.out);
  expect_gradient(attention.dq(), expected.dq, naive.dq, expected.dq_size);
  expect_gradient(attention.dk(), expected.dk, naive.dk, expected.dk_size);
}

// ---- repeatability, counts, what must not be hidden

TEST(Attention, RunsAreEqualInBitsWithAnyNumberOfThreads) {
  const int64_t rows = begins_of(kPatterns).back();
  const Sizes sizes{rows, rows, 4, 2, 64};
  const Inputs in(sizes);
  const AttentionPlan plan = plan_of(kPatterns, Rule::kVisualChat);
  Attention first(sizes, plan, in.q, in.k, in.v);
  first.forward();
  first.backward(in.dout);
  for (const int threads : {1, 2, 2, 5}) {
    Attention again(sizes, plan, in.q, in.k, in.v, threads);
    again.forward();
    again.backward(in.dout);
    EXPECT_TRUE(first.same_bits(again)) << threads << " threads";
  }
}

TEST(Attention, ALaterTokenNeverChangesAnEarlierRow) {
  const Sizes sizes{97, 97, 1, 1, 64};
  Inputs in(sizes);
  const AttentionPlan plan = plan_of({text(97)}, Rule::kCausal);
  Attention before(sizes, plan, in.q, in.k, in.v);
  before.forward();
  for (size_t c = 50 * 64; c < in.k.size(); ++c) in.k[c] += 1;
  for (size_t c = 50 * 64; c < in.v.size(); ++c) in.v[c] += 1;
  Attention after(sizes, plan, in.q, in.k, in.v);
  after.forward();
  const Values a = before.out(), b = after.out();
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 50 * 64, b.begin()));
  EXPECT_NE(a[50 * 64], b[50 * 64]);
}

TEST(Attention, CountsVisiblePairs) {
  const Sizes sizes{7, 7, 4, 2, 8};
  const Inputs in(sizes);
  const AttentionPlan plan = plan_of({text(3) + image(2) + text(2)}, Rule::kPublished);
  Attention attention(sizes, plan, in.q, in.k, in.v);
  attention.forward();
  const int64_t pairs = (1 + 2 + 3 + 4 + 5) + (2 + 2);  // text rows on text, text rows on images
  EXPECT_EQ(attention.counts().attention_flops, 4 * 8 * 4 * pairs);
  EXPECT_EQ(attention.counts().attention_query_rows, 7);
  attention.backward(in.dout);
  EXPECT_EQ(attention.counts().attention_flops, (4 + 10) * 8 * 4 * pairs);
  EXPECT_EQ(attention.counts().attention_query_rows, 7);
}

TEST(Attention, CountsThePairsOfAWindow) {
  const Sizes sizes{7, 7, 4, 2, 8};
  const Inputs in(sizes);
  const AttentionPlan plan = plan_of({text(7)}, Rule::kCausal, Order::kByPosition, 3);
  Attention attention(sizes, plan, in.q, in.k, in.v);
  attention.forward();
  EXPECT_EQ(attention.counts().attention_flops, 4 * 8 * 4 * (1 + 2 + 3 + 3 + 3 + 3 + 3));
}

TEST(Attention, NotANumberIsNotSwallowed) {
  const Sizes sizes{97, 97, 1, 1, 64};
  Inputs in(sizes);
  in.k[40 * 64] = std::numeric_limits<double>::quiet_NaN();
  const AttentionPlan plan = plan_of({text(97)}, Rule::kCausal);
  Attention attention(sizes, plan, in.q, in.k, in.v);
  attention.forward();
  const Values out = attention.out();
  for (size_t row = 40; row < 97; ++row) EXPECT_TRUE(std::isnan(out[row * 64])) << row;
}

// ---- decoding

// New rows against the cache equal the last rows of the whole sequence.
TEST(Attention, DecodingGivesTheLastRows) {
  const Samples all = {text(9) + image(17) + text(30), image(270) + text(9), text(300), text(1)};
  const std::pair<Rule, int64_t> kinds[] = {{Rule::kCausal, kNoWindow},
                                            {Rule::kPublished, kNoWindow},
                                            {Rule::kVisualChat, kNoWindow},
                                            {Rule::kCausal, 20},
                                            {Rule::kPublished, 270}};
  for (const std::string& sample : all) {
    for (const auto& [rule, window] : kinds) {
      const int64_t rows = static_cast<int64_t>(sample.size());
      const Sizes sizes{rows, rows, 4, 2, 80};
      const Inputs in(sizes);
      AttentionPlan plan = plan_of({sample}, rule, Order::kByPosition, window);
      Attention whole(sizes, plan, in.q, in.k, in.v);
      whole.forward();
      const Values out = whole.out();
      for (const int64_t first : {rows - 1, rows / 3}) {
        plan = last_of(plan_of({sample}, rule, Order::kByPosition, window), first);
        const int64_t skipped = first * 4 * 80;
        Attention decode({rows - first, rows, 4, 2, 80}, plan,
                         Values(in.q.begin() + skipped, in.q.end()), in.k, in.v);
        decode.forward();
        EXPECT_LT(relative_error(decode.out(), Values(out.begin() + skipped, out.end())), 1e-6)
            << sample.substr(0, 30) << ", rule " << static_cast<int>(rule) << ", first " << first;
      }
    }
  }
}

// ---- some of the queries

// As with all of them and no gradient of the others: in equal bits, but for the keys' gradients,
// which then add up in other blocks; measured up to 1.2e-7.
TEST(Attention, SomeQueriesHaveWhatTheyHaveAmongAll) {
  const Samples all = {text(9) + image(17) + text(30), text(80) + image(70) + text(9), text(3)};
  const std::pair<Rule, int64_t> kinds[] = {{Rule::kCausal, kNoWindow},
                                            {Rule::kPublished, kNoWindow},
                                            {Rule::kVisualChat, kNoWindow},
                                            {Rule::kPublished, 20}};
  for (const auto& [rule, window] : kinds) {
    SCOPED_TRACE(static_cast<int>(rule));
    const int64_t rows = begins_of(all).back(), width = 4 * 80;
    const std::vector<int32_t> some = some_of(rows);
    const Sizes sizes{rows, rows, 4, 2, 80};
    const Inputs in(sizes);
    const AttentionPlan plan = plan_of(all, rule, Order::kByKind, window);
    Values dout(in.dout.size(), 0.0);
    for (const int64_t row : some)
      std::copy_n(in.dout.begin() + row * width, width, dout.begin() + row * width);
    Attention whole(sizes, plan, in.q, in.k, in.v);
    whole.forward();
    whole.backward(dout);
    const AttentionPlan kept = kept_of(plan, some);
    Attention few({static_cast<int64_t>(some.size()), rows, 4, 2, 80}, kept,
                  rows_of(in.q, some, width), in.k, in.v);
    few.forward();
    few.backward(rows_of(in.dout, some, width));
    EXPECT_EQ(few.out(), rows_of(whole.out(), some, width));
    EXPECT_EQ(few.dq(), rows_of(whole.dq(), some, width));
    EXPECT_LT(relative_error(few.dk(), whole.dk()), 3e-7);
    EXPECT_LT(relative_error(few.dv(), whole.dv()), 3e-7);
  }
}

}  // namespace
}  // namespace facet::op_test
