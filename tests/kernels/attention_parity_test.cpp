// The attention kernels against the CPU backend and against dense masks in fp64.
#include <numeric>

#include "kernels/cuda/launchers.h"
#include "ops/pool_plan.h"
#include "tests/device/cuda/hopper_device.h"
#include "tests/kernels/parity.h"
#include "tests/ops/attention_oracle.h"

namespace facet::kernel_test {
namespace {

using op_test::AttentionOracle;
using op_test::begins_of;
using op_test::kNoWindow;
using op_test::Masks;
using op_test::masks_of;
using op_test::Order;
using op_test::plan_of;
using op_test::Rule;
using op_test::Samples;
using op_test::Sizes;

// Text and image rows alternating: lengths(3, 2, 1) is "tttiit".
std::string tokens(std::initializer_list<int> lengths) {
  std::string result;
  char kind = 't';
  for (const int length : lengths) {
    result.append(static_cast<size_t>(length), kind);
    kind = kind == 't' ? 'i' : 't';
  }
  return result;
}

struct AttentionCase {
  std::string name;
  DType dtype;
  Rule rule;
  Samples samples;
  int64_t heads, kv_heads, width;
  int64_t gap = 0;
  Order order = Order::kByPosition;
  int64_t window = kNoWindow;
  bool some_queries = false;

  std::vector<int32_t> queries() const {
    const int64_t rows = begins_of(samples).back();
    if (some_queries) return op_test::some_of(rows);
    std::vector<int32_t> all(static_cast<size_t>(rows));
    std::iota(all.begin(), all.end(), 0);
    return all;
  }
  Sizes sizes() const {
    return {static_cast<int64_t>(queries().size()),
            begins_of(samples).back(),
            heads,
            kv_heads,
            width,
            queries()};
  }
  AttentionPlan plan() const {
    const AttentionPlan whole = plan_of(samples, rule, order, window);
    return some_queries ? op_test::kept_of(whole, queries()) : whole;
  }
  std::vector<Masks> masks() const {
    return op_test::rows_of(masks_of(samples, rule, order, window), queries(),
                            begins_of(samples).back());
  }
};

void PrintTo(const AttentionCase& c, std::ostream* out) { *out << c.name; }

std::string name_of_attention(const testing::TestParamInfo<AttentionCase>& info) {
  const AttentionCase& c = info.param;
  return fmt::format("{}_{}_H{}_G{}_E{}", c.name, name_of(c.dtype), c.heads, c.kv_heads, c.width);
}

double norm_of_difference(const Values& a, const Values& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}
double norm(const Values& a) { return norm_of_difference(a, Values(a.size(), 0.0)); }

// The operands of a call on both sides.
class AttentionOperands {
 public:
  AttentionOperands(const Sizes& s, const AttentionPlan& plan, DType dtype, int64_t gap)
      : s_(s),
        plan_(plan),
        work_(plan, cuda::JointShare::of(4, s.heads, s.kv_heads)),
        device_work_(work_.words(), stream_),
        q(stream_, "q", s.num_queries, s.heads * s.width, gap, dtype, Role::kIn),
        k(stream_, "k", s.num_keys, s.kv_heads * s.width, gap, dtype, Role::kIn),
        v(stream_, "v", s.num_keys, s.kv_heads * s.width, gap, dtype, Role::kIn),
        dout(stream_, "dout", s.num_queries, s.heads * s.width, gap, dtype, Role::kIn),
        out(stream_, "out", s.num_queries, s.heads * s.width, gap, dtype, Role::kOut),
        out_part(stream_, "image", s.num_queries, s.heads * s.width, gap, dtype, Role::kOut),
        lse(stream_, "lse", 1, plan.num_statistics() * s.heads * s.num_queries, 0, DType::kF32,
            Role::kOut),
        delta(stream_, "delta", 1, plan.num_slots * s.heads * s.num_queries, 0, DType::kF32,
              Role::kOut),
        dq(stream_, "dq", s.num_queries, s.heads * s.width, gap, dtype, Role::kOut),
        dk(stream_, "dk", s.num_keys, s.kv_heads * s.width, gap, dtype, Role::kOut),
        dv(stream_, "dv", s.num_keys, s.kv_heads * s.width, gap, dtype, Role::kOut),
        joint_sums_(cuda::attention_joint_sums(s.num_queries, s.heads)),
        joint_counters_(cuda::attention_joint_counters(s.num_queries, s.heads)) {}

  void run_kernels() {
    run_forward();
    run_backward({}, {});
  }
  void run_backward(const cuda::Angles& q_angles, const cuda::Angles& k_angles) {
    cuda::attention_backward(dq.device(), dk.device(), dv.device(), dout.device(), q.device(),
                             k.device(), v.device(), out.device(), image(), lse.device_f32(),
                             delta.device_f32(), q_angles, k_angles, lists(), s_.heads, s_.kv_heads,
                             s_.scale(), side_, stream_, joint());
  }
  void run_forward() {
    for (ParityMatrix* output : outputs()) output->upload();
    cuda::attention_forward(out.device(), lse.device_f32(), image(), q.device(), k.device(),
                            v.device(), lists(), s_.heads, s_.kv_heads, s_.scale(), stream_);
  }
  void run_forward_cpu(Backend& cpu) {
    cpu.attention_forward(out.host(), host_lse(), host_image(), q.host(), k.host(), v.host(), plan_,
                          s_.heads, s_.kv_heads, s_.scale());
  }
  void run_cpu(Backend& cpu) {
    run_forward_cpu(cpu);
    cpu.attention_backward(dq.host(), dk.host(), dv.host(), dout.host(), q.host(), k.host(),
                           v.host(), out.host(), host_image(), host_lse(), Rotation(), Rotation(),
                           plan_, s_.heads, s_.kv_heads, s_.scale());
  }
  // dq and dk, turned back in passes of their own.
  void turn_back(const cuda::Angles& q_angles, const cuda::Angles& k_angles) {
    cuda::rope_backward(dq.device(), q_angles.cos_NE, q_angles.sin_NE, s_.heads, stream_);
    cuda::rope_backward(dk.device(), k_angles.cos_NE, k_angles.sin_NE, s_.kv_heads, stream_);
  }
  const TestStream& stream() const { return stream_; }
  bool two_slots() const { return plan_.num_slots == 2; }
  std::vector<ParityMatrix*> outputs() { return {&out, &out_part, &lse, &delta, &dq, &dk, &dv}; }

 private:
  cuda::AttentionLists lists() const {
    cuda::AttentionLists lists = work_.lists(device_work_.data());
    if (!for_hopper) lists.key_rows = 0;
    return lists;
  }
  cuda::Operand image() { return two_slots() ? out_part.device() : cuda::Operand{}; }
  Tensor host_image() { return two_slots() ? out_part.host() : Tensor(); }
  Tensor host_lse() { return lse.host().view({plan_.num_statistics(), s_.heads, s_.num_queries}); }
  cuda::JointWorkspace joint() const {
    if (!is_joint) return {};
    return {.sums = joint_sums_.data(), .counters = joint_counters_.data()};
  }

  TestStream stream_;
  SideStream side_;
  Sizes s_;
  const AttentionPlan& plan_;
  cuda::AttentionWork work_;
  DeviceBuffer<int32_t> device_work_;

 public:
  bool for_hopper = false;  // else other kernels run on a Hopper, too
  bool is_joint = false;    // backward in one kernel
  ParityMatrix q, k, v, dout, out, out_part, lse, delta, dq, dk, dv;

 private:
  DeviceBuffer<float> joint_sums_;
  DeviceBuffer<int32_t> joint_counters_;
};

// At most `factor` times as far from fp64 as the CPU backend, which keeps P in fp32, and roundings
// by the size of the terms that cancel (a row with one key has no dq).
void expect_near(ParityMatrix& output, const Values& exact, const Values& size, double factor,
                 double rounding) {
  const Values gpu = output.of_gpu(), cpu = output.of_cpu();
  const double bound = factor * norm_of_difference(cpu, exact) + rounding * norm(size);
  EXPECT_LE(norm_of_difference(gpu, exact), bound);
  EXPECT_LE(norm_of_difference(gpu, cpu), bound);
}

double ulp_of(DType dtype) {
  return dtype == DType::kF32 ? 2e-7 : dtype == DType::kBF16 ? 0x1p-9 : 0x1p-12;
}

// Which of two parts is the smaller may differ where they are nearly equal.
void expect_parts(AttentionOperands& x, const Sizes& sizes,
                  const op_test::AttentionResult<double>& exact, double ulp) {
  const auto error = [&](const Values& parts, const Values& statistics) {
    const Values slots(statistics.end() - sizes.heads * sizes.num_queries, statistics.end());
    return norm_of_difference(parts, parts_in_slots(exact, sizes, slots));
  };
  const double gpu = error(x.out_part.of_gpu(), x.lse.of_gpu());
  const double cpu = error(x.out_part.of_cpu(), x.lse.of_cpu());
  EXPECT_LE(gpu, 2 * cpu + ulp * norm(exact.out_image));
}

void expect_parity(AttentionOperands& x, const Sizes& sizes, const std::vector<Masks>& masks,
                   DType dtype) {
  CpuBackend fp32(1);
  HalfStorage half(fp32, int64_t{1} << 26);
  x.run_kernels();
  x.run_cpu(is_16_bit(dtype) ? static_cast<Backend&>(half) : fp32);
  const auto exact = AttentionOracle<double>(sizes, masks, x.q.start(), x.k.start(), x.v.start())
                         .run(x.dout.start());
  const double ulp = ulp_of(dtype);
  expect_near(x.out, exact.out, exact.out, 2, ulp);
  if (x.two_slots()) expect_parts(x, sizes, exact, ulp);
  expect_near(x.dq, exact.dq, exact.dq_size, 3, ulp);
  expect_near(x.dk, exact.dk, exact.dk_size, 3, ulp);
  expect_near(x.dv, exact.dv, exact.dv_size, 3, ulp);
}

class AttentionParity : public testing::TestWithParam<AttentionCase> {};

TEST_P(AttentionParity, ForwardAndBackward) {
  const AttentionCase& c = GetParam();
  const Sizes sizes = c.sizes();
  const AttentionPlan plan = c.plan();
  AttentionOperands x(sizes, plan, c.dtype, c.gap);
  expect_parity(x, sizes, c.masks(), c.dtype);
  constexpr int64_t kFewRows = 20;
  if (sizes.num_keys > kFewRows) return;
  std::vector<Values> first;
  for (ParityMatrix* output : x.outputs()) first.push_back(output->of_gpu());
  for_other_thread_orders([&] {
    x.run_kernels();
    for (size_t i = 0; i < first.size(); ++i)
      EXPECT_TRUE(same_bits(x.outputs()[i]->of_gpu(), first[i])) << i;
  });
}

// Cross attention, as in a resampler: other numbers of queries than of keys.
TEST(CrossAttentionParity, FewerAndMoreQueriesThanKeys) {
  constexpr int64_t kSamples = 2;
  for (const auto& [queries, keys, width] :
       {std::tuple{7, 97, 64}, {97, 7, 80}, {65, 33, 128}, {1, 33, 13}})
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      const Sizes sizes{kSamples * queries, kSamples * keys, 2, 2, width};
      AttentionPlan plan;
      make_full_plan(plan, kSamples, queries, keys);
      std::vector<Masks> masks(1,
                               Masks(static_cast<size_t>(sizes.num_queries * sizes.num_keys), 2));
      for (int64_t i = 0; i < sizes.num_queries; ++i)
        for (int64_t j = 0; j < keys; ++j)
          masks[0][static_cast<size_t>(i * sizes.num_keys + i / queries * keys + j)] = 0;
      SCOPED_TRACE(fmt::format("{} queries, {} keys, {}", queries, keys, name_of(dtype)));
      AttentionOperands x(sizes, plan, dtype, 0);
      expect_parity(x, sizes, masks, dtype);
    }
}

// A cache whose rows lie as they came: the keys of a class are in several ranges, and what a window
// hides ends in any of them.
TEST(AttentionParityOfACache, TheLastRowsKeepTheirWindows) {
  const Samples samples = {tokens({40, 70, 60, 17, 40})};
  constexpr int64_t kRows = 227, kFirst = 95;
  for (const int64_t window : {30, 150})
    for (const auto& [dtype, width] : {std::pair(DType::kF32, 16), {DType::kBF16, 64}}) {
      SCOPED_TRACE(fmt::format("window {}, {}", window, name_of(dtype)));
      const AttentionPlan plan =
          op_test::last_of(plan_of(samples, Rule::kPublished, Order::kByPosition, window), kFirst);
      std::vector<Masks> masks = masks_of(samples, Rule::kPublished, Order::kByPosition, window);
      for (Masks& mask : masks) mask.erase(mask.begin(), mask.begin() + kFirst * kRows);
      const Sizes sizes{kRows - kFirst, kRows, 2, 1, width};
      AttentionOperands x(sizes, plan, dtype, 0);
      CpuBackend fp32(1);
      HalfStorage half(fp32, int64_t{1} << 26);
      x.run_forward();
      x.run_forward_cpu(is_16_bit(dtype) ? static_cast<Backend&>(half) : fp32);
      const auto exact =
          AttentionOracle<double>(sizes, masks, x.q.start(), x.k.start(), x.v.start())
              .run(x.dout.start());
      expect_near(x.out, exact.out, exact.out, 2, ulp_of(dtype));
    }
}

// The last queries of a sequence whose rows lie in a pool.
struct PoolSequence {
  std::string tokens;
  int64_t first;
  std::vector<RowRange> places;

  int64_t row_in_pool(int64_t row) const {
    auto place = places.begin();
    for (; row >= place->count; ++place) row -= place->count;
    return place->first + row;
  }
};

// Adds the sequence's queries to the masks, whose keys are the rows of the pool.
void add_masks(std::vector<Masks>& masks, const PoolSequence& sequence, int64_t pool_rows,
               int64_t window) {
  const auto rows = static_cast<int64_t>(sequence.tokens.size());
  const std::vector<Masks> own =
      masks_of({sequence.tokens}, Rule::kPublished, Order::kByPosition, window);
  for (size_t m = 0; m < masks.size(); ++m)
    for (int64_t i = sequence.first; i < rows; ++i) {
      masks[m].resize(masks[m].size() + static_cast<size_t>(pool_rows), 2);
      for (int64_t j = 0; j < rows; ++j)
        masks[m][masks[m].size() - static_cast<size_t>(pool_rows - sequence.row_in_pool(j))] =
            own[m][static_cast<size_t>(i * rows + j)];
    }
}

// Three sequences in pages of 32 rows, two of which share their first two; one brings a prompt and
// the others a token.
TEST(AttentionParityOfACache, SequencesInAPool) {
  constexpr int64_t kPoolRows = 384;
  const std::vector<PoolSequence> sequences = {
      {tokens({40, 70, 20}), 129, {{64, 64}, {0, 64}, {352, 32}}},
      {tokens({40, 24, 30, 5, 40}), 64, {{64, 64}, {160, 96}}},
      {tokens({9, 20}), 28, {{320, 32}}}};
  for (const int64_t window : {kNoWindow, int64_t{30}})
    for (const auto& [dtype, width] : {std::pair(DType::kF32, 16), {DType::kBF16, 64}}) {
      SCOPED_TRACE(fmt::format("window {}, {}", window, name_of(dtype)));
      AttentionPlan plan;
      PoolPlanWriter writer;
      writer.begin(plan, kPoolRows, 2);
      std::vector<Masks> masks(2);
      std::vector<int32_t> own_rows;
      for (const PoolSequence& sequence : sequences) {
        const AttentionPlan whole =
            plan_of({sequence.tokens}, Rule::kPublished, Order::kByPosition, window);
        writer.add(plan, op_test::last_of(whole, sequence.first), sequence.places);
        add_masks(masks, sequence, kPoolRows, window);
        for (auto row = sequence.first; row < static_cast<int64_t>(sequence.tokens.size()); ++row)
          own_rows.push_back(static_cast<int32_t>(sequence.row_in_pool(row)));
      }
      const Sizes sizes{static_cast<int64_t>(own_rows.size()), kPoolRows, 2, 1, width, own_rows};
      AttentionOperands x(sizes, plan, dtype, 0);
      CpuBackend fp32(1);
      HalfStorage half(fp32, int64_t{1} << 26);
      x.run_forward();
      x.run_forward_cpu(is_16_bit(dtype) ? static_cast<Backend&>(half) : fp32);
      const auto exact =
          AttentionOracle<double>(sizes, masks, x.q.start(), x.k.start(), x.v.start())
              .run(x.dout.start());
      expect_near(x.out, exact.out, exact.out, 2, ulp_of(dtype));
    }
}

// One side without rows: its kernels are not launched, and the other side's gradient is 0.
void expect_zeros_without_a_side(DType dtype, int64_t width, bool for_hopper,
                                 bool is_joint = false) {
  for (const int64_t queries : {0, 3}) {
    const Sizes sizes{queries, 3 - queries, 2, 2, width};
    AttentionPlan plan;
    make_full_plan(plan, 1, sizes.num_queries, sizes.num_keys);
    AttentionOperands x(sizes, plan, dtype, 0);
    x.for_hopper = for_hopper;
    x.is_joint = is_joint;
    x.run_kernels();
    const Values zeros(static_cast<size_t>(3 * sizes.heads * sizes.width), 0.0);
    EXPECT_EQ((queries > 0 ? x.dq : x.dk).of_gpu(), zeros);
    EXPECT_EQ((queries > 0 ? x.out : x.dv).of_gpu(), zeros);
  }
}

TEST(AttentionParityEmpty, ASideWithoutRows) {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    expect_zeros_without_a_side(dtype, 64, false);
}

// exp() of such scores is 0 or infinite in fp32; their softmax is as tame as any.
TEST(AttentionParityScores, FarFromZero) {
  const Samples samples = {tokens({7})};
  const Sizes sizes{7, 7, 2, 1, 64};
  const AttentionPlan plan = plan_of(samples, Rule::kCausal);
  const auto shifted = [](Values values, double by, DType dtype) {
    for (double& value : values) value += by;
    return rounded(values, dtype);
  };
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const double far : {5.0, -5.0}) {
      AttentionOperands x(sizes, plan, dtype, 0);
      x.q.set(shifted(x.q.start(), 5, dtype));
      x.k.set(shifted(x.k.start(), far, dtype));
      expect_parity(x, sizes, masks_of(samples, Rule::kCausal), dtype);
    }
}

// One kind of rows whose values are small beside those of the other: its part of a row is small,
// too, and what its keys get depends on no rounding of the other's.
class SmallPart : public testing::TestWithParam<std::tuple<DType, int64_t, char>> {};

TEST_P(SmallPart, HasItsOwnDelta) {
  const auto [dtype, width, small_kind] = GetParam();
  constexpr double kSmall = 0x1p-7;
  const Samples samples = {tokens({9, 20, 30})};
  const Sizes sizes{59, 59, 2, 1, width};
  const AttentionPlan plan = plan_of(samples, Rule::kPublished);
  AttentionOperands x(sizes, plan, dtype, 0);
  const auto is_small = [&, kind = small_kind](size_t element) {
    return samples[0][element / static_cast<size_t>(sizes.width)] == kind;
  };
  Values v = x.v.start();
  for (size_t i = 0; i < v.size(); ++i)
    if (is_small(i)) v[i] *= kSmall;
  x.v.set(v);
  CpuBackend fp32(1);
  HalfStorage half(fp32, int64_t{1} << 26);
  x.run_kernels();
  x.run_cpu(half);
  const std::vector<Masks> masks = masks_of(samples, Rule::kPublished);
  const auto exact = AttentionOracle<double>(sizes, masks, x.q.start(), x.k.start(), x.v.start())
                         .run(x.dout.start());
  const auto of_small = [&](Values dk) {
    for (size_t i = 0; i < dk.size(); ++i)
      if (!is_small(i)) dk[i] = 0;
    return dk;
  };
  // Measured up to 1.5 roundings; 37 to 59 with the text as what the images leave of the output.
  const Values expected = of_small(exact.dk);
  const double bound = 2 * (dtype == DType::kBF16 ? 0x1p-9 : 0x1p-12) * norm(expected);
  EXPECT_LE(norm_of_difference(of_small(x.dk.of_gpu()), expected), bound);
  EXPECT_LE(norm_of_difference(of_small(x.dk.of_cpu()), expected), bound);
}

INSTANTIATE_TEST_SUITE_P(Kernels, SmallPart,
                         testing::Combine(testing::Values(DType::kBF16, DType::kF16),
                                          testing::Values(64, 128, 13), testing::Values('t', 'i')));

// The modes of attention, each for any number of rows.
struct Mode {
  const char* name;
  Rule rule;
  int64_t heads, kv_heads;
  Samples (*samples)(int length);
};

// Text around two images.
Samples with_images(int n) {
  const int image = n / 4, text = n - 2 * image;
  return {tokens({text / 3, image, text / 3, image, text - 2 * (text / 3)})};
}

const Mode kModes[] = {
    {"full", Rule::kFull, 1, 1, [](int n) { return Samples{tokens({n})}; }},
    {"causal", Rule::kCausal, 1, 1, [](int n) { return Samples{tokens({n})}; }},
    {"varlen", Rule::kCausal, 1, 1,
     [](int n) {
       return Samples{tokens({n - n / 2}), tokens({n / 2 - n / 3}), tokens({n / 3})};
     }},
    {"grouped", Rule::kCausal, 2, 1, [](int n) { return Samples{tokens({n})}; }},
    {"published", Rule::kPublished, 1, 1, with_images},
    {"visual_chat", Rule::kVisualChat, 1, 1, with_images},
};

void add_modes(std::vector<AttentionCase>& cases, DType dtype, int length, int64_t width) {
  for (const Mode& mode : kModes)
    cases.push_back({fmt::format("{}{}", mode.name, length), dtype, mode.rule, mode.samples(length),
                     mode.heads, mode.kv_heads, width, 0, Order::kByKind});
}

// Few rows, all ways for samples to be: with several images, without one, with nothing else; rows
// of more than a tile. Classes without a row: batches of text alone and of images alone.
void add_samples(std::vector<AttentionCase>& cases, DType dtype) {
  const Samples mixed = {tokens({2, 3, 4, 1, 2}), tokens({0, 3, 1}), tokens({2}),
                         tokens({0, 2}),          tokens({1, 1}),    tokens({1})};
  const Samples tiles = {tokens({30, 70, 20, 17, 40}), tokens({0, 67, 13}), tokens({66})};
  const std::pair<const char*, Rule> rules[] = {{"causal", Rule::kCausal},
                                                {"published", Rule::kPublished},
                                                {"visual_chat", Rule::kVisualChat}};
  for (const auto& [name, rule] : rules) {
    const auto add = [&, name = name, rule = rule](const char* what, const Samples& samples,
                                                   int64_t width,
                                                   Order order = Order::kByPosition) {
      cases.push_back(
          {fmt::format("{}_{}", name, what), dtype, rule, samples, 2, 1, width, 0, order});
    };
    for (const int64_t width : {16, 64, 80, 128})
      if (!every_access_is_watched() || width == 16 || width == 64) add("mixed", mixed, width);
    if (!every_access_is_watched() || rule == Rule::kVisualChat) add("tiles", tiles, 64);
    if (rule == Rule::kCausal) continue;
    add("sorted", tiles, 64, Order::kByKind);
    for (const int64_t width : {16, 64}) {
      add("no_image", {tokens({5}), tokens({1})}, width);
      add("no_text", {tokens({0, 5}), tokens({0, 1})}, width);
    }
  }
}

// Labelled rows alone as queries; the last sample but one has none.
void add_some_queries(std::vector<AttentionCase>& cases, DType dtype) {
  const Samples samples = {tokens({9, 7, 60, 5, 20}), tokens({2}), tokens({1, 3})};
  const std::tuple<const char*, Rule, int64_t> lists[] = {
      {"some_causal", Rule::kCausal, kNoWindow},
      {"some_published", Rule::kPublished, kNoWindow},
      {"some_visual_chat", Rule::kVisualChat, kNoWindow},
      {"some_windows", Rule::kPublished, 30}};
  for (const auto& [name, rule, window] : lists)
    cases.push_back({name, dtype, rule, samples, 2, 1, dtype == DType::kF32 ? 16 : 64, 0,
                     Order::kByKind, window, true});
}

// Windows of less than a step, and of more than a tile.
void add_windows(std::vector<AttentionCase>& cases, DType dtype) {
  const Samples mixed = {tokens({2, 3, 4, 1, 2}), tokens({9})};
  const Samples tiles = {tokens({60, 70, 200, 17, 40}), tokens({66})};
  const std::tuple<const char*, Rule, Order> lists[] = {
      {"window_causal", Rule::kCausal, Order::kByPosition},
      {"window_published", Rule::kPublished, Order::kByPosition},
      {"window_sorted", Rule::kPublished, Order::kByKind}};
  for (const auto& [name, rule, order] : lists) {
    for (const int64_t width : {16, 64, 128})
      if (!every_access_is_watched() || width < 128)
        cases.push_back({name, dtype, rule, mixed, 2, 1, width, 0, order, 3});
    if (every_access_is_watched() && dtype != DType::kBF16) continue;
    for (const int64_t window : {30, 150})
      cases.push_back({fmt::format("{}{}", name, window), dtype, rule, tiles, 2, 1,
                       dtype == DType::kF32 ? 16 : 64, 0, order, window});
  }
}

std::vector<AttentionCase> attention_cases() {
  std::vector<AttentionCase> cases;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    add_samples(cases, dtype);
    add_windows(cases, dtype);
    if (!every_access_is_watched() || dtype != DType::kF16) add_some_queries(cases, dtype);
    for (const int length : {1, 7, 97, 257})
      if (!every_access_is_watched() || length <= 7)
        for (const int64_t width : {64, 128})
          cases.push_back({fmt::format("pair{}", length),
                           dtype,
                           width == 64 ? Rule::kFull : Rule::kCausal,
                           {tokens({length}), tokens({length})},
                           2,
                           width == 64 ? 2 : 1,
                           width});
    // The plain kernels take any width, and a narrow one is faster here.
    if (!every_access_is_watched()) add_modes(cases, dtype, 1025, dtype == DType::kF32 ? 16 : 64);
    // Rows that are not 16-byte aligned, and a width that is not a multiple of a pack.
    cases.push_back({"causal_gap", dtype, Rule::kCausal, {tokens({17})}, 2, 1, 64, 1});
    cases.push_back({"causal_odd", dtype, Rule::kCausal, {tokens({17})}, 3, 1, 13});
    // Of SigLIP so400m and Qwen-VL: the plain kernels.
    for (const int64_t width : {72, 104})
      cases.push_back({"full", dtype, Rule::kFull, {tokens({17})}, 1, 1, width});
  }
  if (every_access_is_watched()) {
    add_modes(cases, DType::kBF16, 257, 64);
    cases.push_back({"long513", DType::kF16, Rule::kVisualChat, with_images(513), 1, 1, 64});
    // At 128 the teams of dq share dS.
    cases.push_back({"wide257", DType::kBF16, Rule::kVisualChat, with_images(257), 2, 1, 128});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Plans, AttentionParity, testing::ValuesIn(attention_cases()),
                         name_of_attention);

// ---- the kernels for Hopper

// Statistics of rows without a part are left as they were, NaN: 0 here.
Values written(Values values) {
  for (double& value : values)
    if (std::isnan(value)) value = 0;
  return values;
}

class HopperAttentionParity : public testing::TestWithParam<AttentionCase> {
 protected:
  void SetUp() override {
    if (!hopper_.is_here()) GTEST_SKIP() << device_test::kNoHopper;
  }

 private:
  const device_test::HopperDevice hopper_;
};

TEST_P(HopperAttentionParity, ForwardAndBackward) {
  const AttentionCase& c = GetParam();
  const AttentionPlan plan = c.plan();
  AttentionOperands x(c.sizes(), plan, c.dtype, c.gap);
  x.for_hopper = true;
  expect_parity(x, c.sizes(), c.masks(), c.dtype);
  std::vector<Values> first;
  for (ParityMatrix* output : x.outputs()) first.push_back(written(output->of_gpu()));
  for_other_thread_orders([&] {
    x.run_kernels();
    for (size_t i = 0; i < first.size(); ++i)
      EXPECT_TRUE(same_bits(written(x.outputs()[i]->of_gpu()), first[i])) << i;
  });
  // Their twins add the same products in steps of other lengths, and round P once more for dk.
  x.for_hopper = false;
  x.run_kernels();
  const int64_t log_sums = plan.num_slots * c.sizes().heads * c.sizes().num_queries;
  for (size_t i = 0; i < first.size(); ++i) {
    ParityMatrix* const output = x.outputs()[i];
    if (output == &x.out_part) continue;  // of parts that are nearly equal they may keep another
    Values twin = written(output->of_gpu());
    if (output == &x.lse)
      for (Values* of : {&twin, &first[i]}) of->resize(static_cast<size_t>(log_sums));
    const double bound = output == &x.lse ? 1e-6 : 3 * ulp_of(c.dtype);
    EXPECT_LE(norm_of_difference(twin, first[i]), bound * norm(first[i])) << i;
  }
}

// dq, dk and dv out of one kernel are those of two, up to the order of dq's sums: the same bits in
// any order of threads and blocks, whatever its counters and sums held before. By mma.sync dq is
// made of P in 16 bits, as dk is.
void expect_joint_backward(const AttentionCase& c, bool for_hopper) {
  const AttentionPlan plan = c.plan();
  AttentionOperands x(c.sizes(), plan, c.dtype, c.gap);
  x.for_hopper = for_hopper;
  x.run_kernels();
  const double bound = (for_hopper ? 1 : 2) * ulp_of(c.dtype);
  const std::vector<ParityMatrix*> gradients = {&x.dq, &x.dk, &x.dv};
  std::vector<Values> separate, first;
  for (ParityMatrix* gradient : gradients) separate.push_back(gradient->of_gpu());
  x.is_joint = true;
  for_thread_orders(every_access_is_watched() ? 0 : 1, [&] {
    for (ParityMatrix* gradient : gradients) gradient->upload();
    x.run_backward({}, {});
    for (size_t i = 0; i < separate.size(); ++i) {
      const Values joint = gradients[i]->of_gpu();
      if (first.size() == i) first.push_back(joint);
      EXPECT_TRUE(same_bits(joint, first[i])) << i;
      EXPECT_LE(norm_of_difference(joint, separate[i]), bound * norm(separate[i])) << i;
    }
  });
}

TEST_P(HopperAttentionParity, JointBackward) { expect_joint_backward(GetParam(), true); }

class JointAttentionParity : public testing::TestWithParam<AttentionCase> {};

TEST_P(JointAttentionParity, Backward) { expect_joint_backward(GetParam(), false); }

TEST(JointAttentionParityEmpty, ASideWithoutRows) {
  expect_zeros_without_a_side(DType::kBF16, 128, false, true);
}

// Whichever warp of a block lags behind the others, by as much as they let it.
TEST(HopperAttentionLateWarp, BackwardHasTheSameBits) {
  const device_test::HopperDevice hopper;
  if (!hopper.is_here()) GTEST_SKIP() << device_test::kNoHopper;
  const AttentionCase c{"", DType::kBF16, Rule::kCausal, {tokens({300})}, 1, 1, 128};
  const AttentionPlan plan = c.plan();
  AttentionOperands x(c.sizes(), plan, c.dtype, c.gap);
  x.for_hopper = true;
  x.run_kernels();
  for (const bool is_joint : {false, true}) {
    x.is_joint = is_joint;
    std::vector<Values> first;
    const int warps = every_access_is_watched() ? 1 : 12;  // an access is seen whoever lags
    for (int late = -1; late < warps; ++late) {
      if (late >= 0) device_test::delay_warp(late);
      for (ParityMatrix* of : {&x.dq, &x.dk, &x.dv}) of->upload();
      x.run_backward({}, {});
      std::vector<Values> gradients;
      for (ParityMatrix* of : {&x.dq, &x.dk, &x.dv}) gradients.push_back(of->of_gpu());
      if (first.empty()) first = gradients;
      for (size_t i = 0; i < first.size(); ++i)
        EXPECT_TRUE(same_bits(gradients[i], first[i])) << "warp " << late << ", gradient " << i;
    }
    device_test::set_thread_order(0);
  }
}

TEST(HopperAttentionEmpty, ASideWithoutRows) {
  const device_test::HopperDevice hopper;
  if (!hopper.is_here()) GTEST_SKIP() << device_test::kNoHopper;
  expect_zeros_without_a_side(DType::kBF16, 128, true);
}

// Tiles of fewer rows than a warpgroup multiplies, and of more; ranges that end within a step, with
// it and after it; keys of a class in one range, and in several.
std::vector<AttentionCase> hopper_cases() {
  std::vector<AttentionCase> cases;
  const auto add = [&](const char* name, DType dtype, Rule rule, const Samples& samples,
                       int64_t heads, int64_t gap, Order order = Order::kByKind) {
    cases.push_back({name, dtype, rule, samples, heads, 1, 128, gap, order});
  };
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    add("causal7", dtype, Rule::kCausal, {tokens({7})}, 2, 8);
    if (every_access_is_watched() && dtype == DType::kF16) continue;
    add("published", dtype, Rule::kPublished, {tokens({10, 40, 30, 20, 33}), tokens({5, 3})}, 2, 0);
  }
  const Samples pieces = {tokens({70, 60, 150, 20, 10})};
  add("cache", DType::kBF16, Rule::kPublished, pieces, 1, 0, Order::kByPosition);
  // Windows are left to the twin.
  cases.push_back({"causal_window",
                   DType::kBF16,
                   Rule::kCausal,
                   {tokens({17})},
                   1,
                   1,
                   128,
                   0,
                   Order::kByKind,
                   3});
  const Samples labelled = {tokens({9, 12, 7}), tokens({2}), tokens({2, 3})};
  cases.push_back({"some_published", DType::kBF16, Rule::kPublished, labelled, 2, 1, 128, 0,
                   Order::kByKind, kNoWindow, true});
  // The first row of q sees its own value.
  add("no_text", DType::kBF16, Rule::kVisualChat, {tokens({0, 5})}, 2, 0);
  add("causal300", DType::kBF16, Rule::kCausal, {tokens({300})}, 1, 0);
  if (every_access_is_watched()) return cases;
  cases.push_back({"some_causal",
                   DType::kBF16,
                   Rule::kCausal,
                   {tokens({133}), tokens({2}), tokens({5})},
                   2,
                   1,
                   128,
                   0,
                   Order::kByKind,
                   kNoWindow,
                   true});
  add("full193", DType::kF16, Rule::kFull, {tokens({193}), tokens({193})}, 1, 0);
  add("varlen", DType::kBF16, Rule::kCausal, {tokens({1}), tokens({130}), tokens({64})}, 2, 0);
  add("visual_chat", DType::kF16, Rule::kVisualChat, {tokens({129}), tokens({0, 40})}, 1, 0);
  add("visual_chat_cache", DType::kF16, Rule::kVisualChat, {tokens({9, 150, 20, 30})}, 1, 0,
      Order::kByPosition);
  add("published_images", DType::kBF16, Rule::kPublished, {tokens({3, 150, 140, 7, 2})}, 1, 0);
  return cases;
}

// By mma.sync: those that differ in the ranges of queries.
std::vector<AttentionCase> joint_cases() {
  std::vector<AttentionCase> cases = hopper_cases();
  std::erase_if(cases, [](const AttentionCase& c) {
    const std::string name = c.name;
    return name == "cache" || name == "some_causal" || name == "visual_chat" ||
           (name == "published" && c.dtype == DType::kF16);
  });
  return cases;
}

// ---- dq and dk turned back where they are stored

// The angles of a rotation, any numbers, in rows that begin on 16-byte boundaries or do not.
struct RandomAngles {
  RandomAngles(const TestStream& stream, const std::string& name, int64_t rows, int64_t half,
               int64_t gap = 0)
      : cos(stream, name + "_cos", rows, half, gap, DType::kF32, Role::kIn),
        sin(stream, name + "_sin", rows, half, gap, DType::kF32, Role::kIn) {}
  cuda::Angles device() { return {cos.device(), sin.device()}; }

  ParityMatrix cos, sin;
};

// Either side turned, or both: the bits that passes of their own leave.
void expect_bits_of_passes(AttentionOperands& x, const Sizes& sizes) {
  RandomAngles of_queries(x.stream(), "q", sizes.num_queries, sizes.width / 2);
  RandomAngles of_keys(x.stream(), "k", sizes.num_keys, sizes.width / 2);
  x.run_forward();
  x.run_backward({}, {});
  const Values dq = x.dq.of_gpu(), dk = x.dk.of_gpu(), dv = x.dv.of_gpu();
  x.turn_back(of_queries.device(), of_keys.device());
  const Values turned_dq = x.dq.of_gpu(), turned_dk = x.dk.of_gpu();
  EXPECT_FALSE(same_bits(turned_dq, dq));
  for (const auto& [queries, keys] : {std::pair(true, true), {true, false}, {false, true}}) {
    for (ParityMatrix* gradient : {&x.dq, &x.dk, &x.dv}) gradient->upload();
    x.run_backward(queries ? of_queries.device() : cuda::Angles(),
                   keys ? of_keys.device() : cuda::Angles());
    EXPECT_TRUE(same_bits(x.dq.of_gpu(), queries ? turned_dq : dq)) << queries << keys;
    EXPECT_TRUE(same_bits(x.dk.of_gpu(), keys ? turned_dk : dk)) << queries << keys;
    EXPECT_TRUE(same_bits(x.dv.of_gpu(), dv)) << queries << keys;
  }
}

class TurnedGradients : public testing::TestWithParam<AttentionCase> {};

TEST_P(TurnedGradients, HaveTheBitsOfPasses) {
  const AttentionPlan plan = GetParam().plan();
  AttentionOperands x(GetParam().sizes(), plan, GetParam().dtype, GetParam().gap);
  expect_bits_of_passes(x, GetParam().sizes());
}

using HopperTurnedGradients = HopperAttentionParity;

TEST_P(HopperTurnedGradients, HaveTheBitsOfPasses) {
  const AttentionPlan plan = GetParam().plan();
  AttentionOperands x(GetParam().sizes(), plan, GetParam().dtype, GetParam().gap);
  x.for_hopper = true;
  for (const bool is_joint : {false, true}) {
    x.is_joint = is_joint;
    expect_bits_of_passes(x, GetParam().sizes());
  }
}

class JointTurnedGradients : public testing::TestWithParam<AttentionCase> {};

TEST_P(JointTurnedGradients, HaveTheBitsOfPasses) {
  const AttentionPlan plan = GetParam().plan();
  AttentionOperands x(GetParam().sizes(), plan, GetParam().dtype, GetParam().gap);
  x.is_joint = true;
  expect_bits_of_passes(x, GetParam().sizes());
}

// On tensor cores angles are read two at a time.
TEST(TurnedGradientsOfOddRows, ArePlain) {
  const AttentionCase c{"odd", DType::kBF16, Rule::kCausal, {tokens({17})}, 2, 1, 64};
  const AttentionPlan plan = c.plan();
  AttentionOperands x(c.sizes(), plan, c.dtype, 0);
  RandomAngles of_queries(x.stream(), "q", c.sizes().num_queries, c.width / 2, 1);
  RandomAngles of_keys(x.stream(), "k", c.sizes().num_keys, c.width / 2, 1);
  x.run_kernels();
  x.turn_back(of_queries.device(), of_keys.device());
  const Values dq = x.dq.of_gpu(), dk = x.dk.of_gpu();
  for (const auto& [queries, keys] : {std::pair(true, false), {false, true}}) {
    x.run_backward(queries ? of_queries.device() : cuda::Angles(),
                   keys ? of_keys.device() : cuda::Angles());
    const Values plain = queries ? x.dq.of_gpu() : x.dk.of_gpu();
    const Values& expected = queries ? dq : dk;
    EXPECT_LE(norm_of_difference(plain, expected), 3 * ulp_of(c.dtype) * norm(expected));
  }
}

// Every kernel that stores dq or dk, with tiles that are full and ones that are not.
std::vector<AttentionCase> turned_cases() {
  const Samples mixed = {tokens({2, 3, 4, 1, 2}), tokens({9})};
  const Samples tile = {tokens({60, 40, 41})};
  std::vector<AttentionCase> cases;
  const auto add = [&](const char* name, DType dtype, const Samples& samples, int64_t width,
                       int64_t gap = 0, int64_t window = kNoWindow, bool some_queries = false) {
    cases.push_back({name, dtype, Rule::kPublished, samples, 4, 2, width, gap, Order::kByKind,
                     window, some_queries});
  };
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    for (const int64_t width : {24, 64, 80, 128}) add("mixed", dtype, mixed, width);
  add("gap", DType::kBF16, mixed, 64, 1);
  add("wide", DType::kF32, mixed, 288);  // a thread has several channels of a half
  for (const int64_t width : {64, 80, 128}) {
    add("window", DType::kBF16, mixed, width, 0, 3);
    add("some", DType::kF16, mixed, width, 0, kNoWindow, true);
    if (!every_access_is_watched()) add("tile", DType::kBF16, tile, width);
  }
  return cases;
}
std::vector<AttentionCase> hopper_turned_cases() {
  std::vector<AttentionCase> cases = turned_cases();
  std::erase_if(cases, [](const AttentionCase& c) {
    return c.width != 128 || c.window != kNoWindow || !is_16_bit(c.dtype);
  });
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Kernels, TurnedGradients, testing::ValuesIn(turned_cases()),
                         name_of_attention);
INSTANTIATE_TEST_SUITE_P(Kernels, HopperTurnedGradients, testing::ValuesIn(hopper_turned_cases()),
                         name_of_attention);
INSTANTIATE_TEST_SUITE_P(Kernels, JointTurnedGradients, testing::ValuesIn(hopper_turned_cases()),
                         name_of_attention);

// Samples of 4096 tokens with eight images; two images of CLIP. `make check-kernels-full`.
std::vector<AttentionCase> real_attention_cases() {
  std::vector<AttentionCase> cases;
  if (!whole_matrix() || every_access_is_watched()) return cases;
  std::string text_and_images;
  for (int image = 0; image < 8; ++image) text_and_images += tokens({256, 256});
  const Samples chat = {text_and_images}, clip = {tokens({257}), tokens({257})};
  for (const auto& [name, rule] :
       {std::pair{"causal4096", Rule::kCausal}, {"visual_chat4096", Rule::kVisualChat}})
    cases.push_back({name, DType::kBF16, rule, chat, 1, 1, 128});
  cases.push_back({"clip", DType::kBF16, Rule::kFull, clip, 16, 16, 64});
  return cases;
}

std::vector<AttentionCase> real_hopper_cases() {
  std::vector<AttentionCase> cases = real_attention_cases();
  std::erase_if(cases, [](const AttentionCase& c) { return c.width != 128; });
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Plans, HopperAttentionParity, testing::ValuesIn(hopper_cases()),
                         name_of_attention);
INSTANTIATE_TEST_SUITE_P(RealSizes, HopperAttentionParity, testing::ValuesIn(real_hopper_cases()),
                         name_of_attention);
INSTANTIATE_TEST_SUITE_P(Plans, JointAttentionParity, testing::ValuesIn(joint_cases()),
                         name_of_attention);
INSTANTIATE_TEST_SUITE_P(RealSizes, JointAttentionParity, testing::ValuesIn(real_hopper_cases()),
                         name_of_attention);

// Every mode at every length, in every type and width of the tensor-core kernels.
std::vector<AttentionCase> whole_attention_matrix() {
  std::vector<AttentionCase> cases;
  if (!whole_matrix()) return cases;
  for (const int length : {1, 7, 97, 257, every_access_is_watched() ? 513 : 1025})
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
      for (const int64_t width : {64, 80, 128}) add_modes(cases, dtype, length, width);
  return cases;
}

// What a joint backward takes of them.
std::vector<AttentionCase> whole_joint_matrix() {
  std::vector<AttentionCase> cases = whole_attention_matrix();
  std::erase_if(cases,
                [](const AttentionCase& c) { return c.width != 128 || !is_16_bit(c.dtype); });
  return cases;
}

INSTANTIATE_TEST_SUITE_P(RealSizes, AttentionParity, testing::ValuesIn(real_attention_cases()),
                         name_of_attention);
INSTANTIATE_TEST_SUITE_P(WholeMatrix, AttentionParity, testing::ValuesIn(whole_attention_matrix()),
                         name_of_attention);
INSTANTIATE_TEST_SUITE_P(WholeMatrix, JointAttentionParity, testing::ValuesIn(whole_joint_matrix()),
                         name_of_attention);

}  // namespace
}  // namespace facet::kernel_test
