// Attention in decoding against the CPU backend, of sequences whose rows lie in pages of a pool.
#include "kernels/cuda/launchers.h"
#include "ops/pool_plan.h"
#include "tests/kernels/parity.h"
#include "tests/ops/attention_oracle.h"

namespace facet::kernel_test {
namespace {

using op_test::kNoWindow;
using op_test::Order;
using op_test::plan_of;
using op_test::Rule;

constexpr int64_t kPage = 32;
constexpr int kA100 = 108;  // multiprocessors

// The last `queries` rows of a sequence of text and image rows: {40, 7, 2} is 40 of text, 7 of an
// image, 2 of text.
struct Sequence {
  std::vector<int> lengths;
  int64_t queries = 1;

  std::string tokens() const {
    std::string result;
    for (size_t i = 0; i < lengths.size(); ++i)
      result.append(static_cast<size_t>(lengths[i]), i % 2 == 0 ? 't' : 'i');
    return result;
  }
  int64_t num_pages() const { return static_cast<int64_t>(tokens().size()) / kPage + 1; }
};

struct DecodeCase {
  std::string name = {};
  DType dtype = DType::kF32;
  std::vector<Sequence> sequences = {};
  Rule rule = Rule::kCausal;
  int64_t heads = 2, kv_heads = 1, width = 64;
  int64_t window = kNoWindow;
  int64_t unused_pages = 3;
};

void PrintTo(const DecodeCase& c, std::ostream* out) { *out << c.name; }

// Deals the pages of a pool to sequences, so that hardly two of one are neighbours.
class Pages {
 public:
  explicit Pages(int64_t count) : count_(count % kStep == 0 ? count + 1 : count) {}
  int64_t rows() const { return count_ * kPage; }
  std::vector<RowRange> take(int64_t rows) {
    std::vector<RowRange> places;
    for (int64_t row = 0; row < rows; row += kPage, ++taken_) {
      const auto first = static_cast<int32_t>(taken_ * kStep % count_ * kPage);
      if (!places.empty() && places.back().end() == first)
        places.back().count += static_cast<int32_t>(kPage);
      else
        places.push_back({first, static_cast<int32_t>(kPage)});
    }
    return places;
  }

 private:
  static constexpr int64_t kStep = 5;
  int64_t count_, taken_ = 0;
};

// The operands of a call on both sides. Rows of the pool that no sequence has written are NaN.
class DecodeOperands {
 public:
  explicit DecodeOperands(const DecodeCase& c)
      : c_(c),
        pages_(num_pages(c)),
        plan_(make_plan()),
        q(stream_, "q", num_queries(), c.heads * c.width, 0, c.dtype, Role::kIn),
        k(stream_, "k", pages_.rows(), c.kv_heads * c.width, kGap, c.dtype, Role::kIn),
        v(stream_, "v", pages_.rows(), c.kv_heads * c.width, kGap, c.dtype, Role::kIn),
        out(stream_, "out", num_queries(), c.heads * c.width, 0, c.dtype, Role::kOut),
        out_part(stream_, "part", num_queries(), c.heads * c.width, 0, c.dtype, Role::kOut),
        lse(stream_, "lse", 1, plan_.num_statistics() * c.heads * num_queries(), 0, DType::kF32,
            Role::kOut) {
    for (ParityMatrix* x : {&k, &v}) x->set(written_rows(x->start()));
  }

  void run_kernels(int multiprocessors = kA100) {
    for (ParityMatrix* output : outputs()) output->upload();
    cuda::DecodeWork work;
    work.make(plan_, multiprocessors);
    const DeviceBuffer<int32_t> words(work.words(), stream_);
    const cuda::DecodeLists lists = work.lists(words.data());
    const DeviceBuffer<float> workspace(cuda::attention_decode_floats(lists, c_.heads, c_.width));
    ASSERT_TRUE(cuda::attention_decode_takes(q.device(), k.device(), v.device(), c_.heads));
    cuda::attention_decode(out.device(), lse.device_f32(),
                           two_slots() ? out_part.device() : cuda::Operand{}, q.device(),
                           k.device(), v.device(), lists, workspace.data(), c_.heads, c_.kv_heads,
                           scale(), stream_);
    stream_.synchronize();
  }
  void run_cpu() {
    CpuBackend fp32(1);
    HalfStorage half(fp32, int64_t{1} << 26);
    Backend& cpu = is_16_bit(c_.dtype) ? static_cast<Backend&>(half) : fp32;
    cpu.attention_forward(out.host(),
                          lse.host().view({plan_.num_statistics(), c_.heads, num_queries()}),
                          two_slots() ? out_part.host() : Tensor(), q.host(), k.host(), v.host(),
                          plan_, c_.heads, c_.kv_heads, scale());
  }
  bool two_slots() const { return plan_.num_slots == 2; }
  std::vector<ParityMatrix*> outputs() { return {&out, &out_part, &lse}; }
  int64_t num_queries() const {
    int64_t sum = 0;
    for (const Sequence& sequence : c_.sequences) sum += sequence.queries;
    return sum;
  }

 private:
  static constexpr int64_t kGap = 8;

  static int64_t num_pages(const DecodeCase& c) {
    int64_t pages = c.unused_pages;
    for (const Sequence& sequence : c.sequences) pages += sequence.num_pages();
    return pages;
  }
  float scale() const { return 1 / std::sqrt(static_cast<float>(c_.width)); }

  AttentionPlan make_plan() {
    AttentionPlan plan;
    PoolPlanWriter writer;
    const bool mmca = c_.rule == Rule::kPublished || c_.rule == Rule::kVisualChat;
    writer.begin(plan, pages_.rows(), mmca ? 2 : 1);
    for (const Sequence& sequence : c_.sequences) {
      const std::string tokens = sequence.tokens();
      const auto rows = static_cast<int64_t>(tokens.size());
      const std::vector<RowRange> places = pages_.take(rows);
      writer.add(plan,
                 op_test::last_of(plan_of({tokens}, c_.rule, Order::kByPosition, c_.window),
                                  rows - sequence.queries),
                 places);
      int64_t left = rows;
      for (const RowRange& place : places) {
        written_.push_back(
            {place.first, static_cast<int32_t>(std::min<int64_t>(left, place.count))});
        left -= place.count;
      }
    }
    return plan;
  }
  Values written_rows(const Values& values) const {
    Values result(values.size(), std::nan(""));
    const int64_t cols = c_.kv_heads * c_.width;
    for (const RowRange& rows : written_)
      std::copy_n(values.begin() + rows.first * cols, rows.count * cols,
                  result.begin() + rows.first * cols);
    return result;
  }

  const DecodeCase c_;
  Pages pages_;
  std::vector<RowRange> written_;
  AttentionPlan plan_;
  TestStream stream_;

 public:
  ParityMatrix q, k, v, out, out_part, lse;
};

double norm_of_difference(const Values& a, const Values& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}
// `rounding`: of each number, by its size. What cancels rounds by the size of the terms, 1:
// measured 5.8e-7 of 4097 that one block adds up.
void expect_near(const Values& gpu, const Values& cpu, double rounding) {
  const double norm = norm_of_difference(cpu, Values(cpu.size(), 0.0));
  const double terms = std::sqrt(static_cast<double>(cpu.size()));
  EXPECT_LE(norm_of_difference(gpu, cpu), rounding * norm + 1e-6 * terms) << norm;
}
// Statistics of rows without a part are left as they were, NaN: 0 here.
Values written(Values values) {
  for (double& value : values)
    if (std::isnan(value)) value = 0;
  return values;
}
// Of means the CPU writes none.
Values where_cpu_writes(Values gpu, const Values& cpu) {
  for (size_t i = 0; i < gpu.size(); ++i)
    if (std::isnan(cpu[i])) gpu[i] = 0;
  return gpu;
}

// Measured: 2e-3 and 2.7e-4, where weights are rounded, too.
double rounding_of(DType dtype) {
  return dtype == DType::kF32 ? 0 : dtype == DType::kBF16 ? 4e-3 : 5e-4;
}

void expect_parity(DecodeOperands& x, DType dtype) {
  const Values lse = x.lse.of_cpu();
  expect_near(x.out.of_gpu(), x.out.of_cpu(), rounding_of(dtype));
  expect_near(where_cpu_writes(x.lse.of_gpu(), lse), written(lse), 1e-6);
  if (x.two_slots()) expect_near(x.out_part.of_gpu(), x.out_part.of_cpu(), rounding_of(dtype));
}

class AttentionDecodeParity : public testing::TestWithParam<DecodeCase> {};

TEST_P(AttentionDecodeParity, IsThatOfTheCpu) {
  const DecodeCase& c = GetParam();
  DecodeOperands x(c);
  x.run_cpu();
  // Parts that are one stretch, looked up in pieces, and in many.
  for (const int multiprocessors : {1, kA100}) {
    x.run_kernels(multiprocessors);
    expect_parity(x, c.dtype);
  }
  if (x.k.start().size() > 20000) return;
  std::vector<Values> first;
  for (ParityMatrix* output : x.outputs()) first.push_back(written(output->of_gpu()));
  for_other_thread_orders([&] {
    x.run_kernels();
    for (size_t i = 0; i < first.size(); ++i)
      EXPECT_TRUE(same_bits(written(x.outputs()[i]->of_gpu()), first[i])) << i;
  });
}

std::vector<DecodeCase> decode_cases() {
  std::vector<DecodeCase> cases;
  const bool watched = every_access_is_watched();
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const auto add = [&](const std::string& name, const DecodeCase& c) {
      cases.push_back(c);
      cases.back().name = fmt::format("{}_{}", name, name_of(dtype));
      cases.back().dtype = dtype;
    };
    for (const int length : {1, 31, 32, 33, watched ? 300 : 4097})
      add(fmt::format("length{}", length), {.sequences = {{{length}}}, .heads = 1});
    for (const int64_t width : {8, 80, 96, 104, 128})
      add(fmt::format("width{}", width), {.sequences = {{{150}, 2}, {{40}}}, .width = width});
    // As many rows as a block has, fewer and more.
    for (const auto& [heads, queries] :
         {std::pair<int64_t, int64_t>{1, 3}, {4, 1}, {8, 2}, {12, 1}, {12, 8}})
      add(fmt::format("group{}_{}", heads, queries),
          {.sequences = {{{70}, queries}}, .heads = 2 * heads, .kv_heads = 2});
    // Queries of both kinds; a sequence without images, and one that ends with an image.
    const std::vector<Sequence> mixed = {
        {{140, 150, 20, 3, 2}, 8}, {{40, 20, 7}}, {{33}, 2}, {{3, 40}, 4}, {{0, 5, 1}, 6}};
    for (const auto& [name, rule] :
         {std::pair("published", Rule::kPublished), {"visual_chat", Rule::kVisualChat}})
      add(name, {.sequences = mixed, .rule = rule});
    for (const int64_t window : {3, 30, 150})
      for (const auto& [name, rule] :
           {std::pair("published", Rule::kPublished), {"causal", Rule::kCausal}})
        add(fmt::format("{}_window{}", name, window),
            {.sequences = mixed, .rule = rule, .window = window});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Plans, AttentionDecodeParity, testing::ValuesIn(decode_cases()),
                         [](const auto& info) { return info.param.name; });

// What is beside a sequence decides neither its stretches nor the order of its sums.
TEST(AttentionDecode, ASequenceHasTheBitsThatItHasAlone) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Sequence sequence = {{150, 60, 9}}, other = {{700}, 8};
    DecodeCase c{.dtype = dtype, .sequences = {sequence, other}};
    c.rule = Rule::kPublished;
    DecodeOperands beside(c);
    c.sequences = {sequence};
    c.unused_pages += other.num_pages();
    DecodeOperands alone(c);
    Values q = beside.q.start();
    q.resize(alone.q.start().size());
    alone.q.set(q);
    beside.run_kernels();
    alone.run_kernels();
    Values of_both = beside.out.of_gpu();
    of_both.resize(alone.out.of_gpu().size());
    EXPECT_TRUE(same_bits(of_both, alone.out.of_gpu()));
  }
}

TEST(AttentionDecode, LongCachesAreCutIntoStretchesForAllMultiprocessors) {
  const auto stretches = [](int length, int multiprocessors) {
    AttentionPlan plan;
    PoolPlanWriter writer;
    writer.begin(plan, length, 1);
    writer.add(
        plan,
        op_test::last_of(plan_of({std::string(static_cast<size_t>(length), 't')}, Rule::kCausal),
                         length - 1),
        std::vector<RowRange>{{0, length}});
    cuda::DecodeWork work;
    work.make(plan, multiprocessors);
    return work.lists(nullptr).num_stretches;
  };
  EXPECT_EQ(stretches(128, kA100), 1);
  EXPECT_EQ(stretches(129, kA100), 2);
  EXPECT_EQ(stretches(2048, kA100), 16);
  EXPECT_EQ(stretches(40000, kA100), 27);  // a quarter of them: with 8 heads of keys 2 blocks each
  EXPECT_EQ(stretches(40000, 3), 1);
}

}  // namespace
}  // namespace facet::kernel_test
