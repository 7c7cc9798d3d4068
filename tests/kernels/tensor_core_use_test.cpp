// Which calls reach the tensor cores: plain kernels would give the numbers too, much later.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "device/arena.h"
#include "emulated/device/devices.h"
#include "emulated/device/observer.h"
#include "emulated/kernels/bulk_copy.h"
#include "emulated/kernels/copied_bytes.h"
#include "emulated/kernels/tensor_core.h"
#include "emulated/kernels/warpgroup.h"
#include "kernels/cuda/attention_work.h"
#include "kernels/cuda/lora_product.h"
#include "kernels/cuda/on_device.h"
#include "tests/device/cuda/device_under_test.h"
#include "tests/device/cuda/hopper_device.h"
#include "tests/kernels/device_buffer.h"
#include "tests/kernels/mirrored.h"
#include "tests/ops/op_cases.h"

namespace facet::kernel_test {
namespace {

constexpr int64_t kRows = 7, kHeads = 2;

class TensorCores : public testing::Test {
 protected:
  Tensor zeros(std::initializer_list<int64_t> shape, DType dtype) {
    const Tensor x = arena_.tensor(shape, dtype);
    cuda_.fill(x, 0);
    return x;
  }
  // How many products of tensor cores an operator took.
  template <typename Call>
  int64_t products_of(const Call& call) {
    const int64_t before = emulated::mma_products();
    call();
    cuda_.synchronize();
    return emulated::mma_products() - before;
  }

  CudaBackend cuda_{kSmallSizes};
  Arena arena_{"test", 1 << 22, cuda_.memory()};
};

class TensorCoresOfAttention : public TensorCores {
 protected:
  struct Products {
    int64_t forward, backward;
  };
  Products products(int64_t width, DType dtype) {
    const ArenaScope scope(arena_);
    const AttentionPlan plan = op_test::causal_plan(kRows);
    const auto rows = [&] { return zeros({kRows, kHeads * width}, dtype); };
    const Tensor q = rows(), k = rows(), v = rows(), out = rows(), dq = rows(), dk = rows(),
                 dv = rows(), dout = rows();
    const Tensor lse = zeros({1, kHeads, kRows}, DType::kF32);
    return {products_of([&] {
              cuda_.attention_forward(out, lse, Tensor(), q, k, v, plan, kHeads, kHeads, 1);
            }),
            products_of([&] {
              cuda_.attention_backward(dq, dk, dv, dout, q, k, v, out, Tensor(), lse, Rotation(),
                                       Rotation(), plan, kHeads, kHeads, 1);
            })};
  }
};

TEST_F(TensorCoresOfAttention, MultiplyAtEveryWidthThatTheyTake) {
  for (const int width : kTensorCoreWidths)
    for (const DType dtype : {DType::kBF16, DType::kF16}) {
      const Products taken = products(width, dtype);
      EXPECT_GT(taken.forward, 0) << width;
      EXPECT_GT(taken.backward, 0) << width;
    }
}

TEST_F(TensorCoresOfAttention, AreLeftAloneInFp32AndAtOtherWidths) {
  for (const auto& [width, dtype] : {std::pair{64, DType::kF32}, std::pair{72, DType::kBF16}}) {
    const Products taken = products(width, dtype);
    EXPECT_EQ(taken.forward, 0) << width;
    EXPECT_EQ(taken.backward, 0) << width;
  }
}

// On compute capability 8.6 a block has 99 KiB of shared memory.
TEST_F(TensorCoresOfAttention, AreLeftAloneInBackwardWhereABlockHasTooLittleMemory) {
  emulated::set_compute_capability({.major = 8, .minor = 6});
  testing::internal::CaptureStderr();
  for (const int width : kTensorCoreWidths) {
    const Products taken = products(width, DType::kBF16);
    EXPECT_GT(taken.forward, 0) << width;
    EXPECT_EQ(taken.backward > 0, width == 64) << width;
  }
  products(128, DType::kBF16);
  const std::string warnings = testing::internal::GetCapturedStderr();
  emulated::set_compute_capability({});
  EXPECT_EQ(std::count(warnings.begin(), warnings.end(), '\n'), 2) << warnings;
  EXPECT_NE(warnings.find("width 80 runs without tensor cores"), std::string::npos) << warnings;
  EXPECT_NE(warnings.find("width 128 runs without tensor cores"), std::string::npos) << warnings;
}

// Of its backward the four products of dk and dv run on the stream that has priority, the three of
// dq on the caller's: blocks of keys, the longer ones, find places first.
TEST_F(TensorCoresOfAttention, KeysGoBeforeQueries) {
  const ArenaScope scope(arena_);
  const AttentionPlan plan = op_test::causal_plan(kRows);
  const cuda::AttentionWork work(plan);
  const auto rows = [&] {
    return cuda::on_device(zeros({kRows, kHeads * kTensorCoreWidths[0]}, DType::kBF16));
  };
  const cuda::Operand q = rows(), k = rows(), v = rows(), out = rows(), dq = rows(), dk = rows(),
                      dv = rows(), dout = rows();
  const auto statistics = [&] {
    return cuda::f32_on_device(zeros({1, kHeads, kRows}, DType::kF32));
  };
  float *const lse = statistics(), *const delta = statistics();
  cuda_.synchronize();
  const TestStream stream;
  SideStream side;
  const DeviceBuffer<int32_t> words(work.words(), stream);
  stream.synchronize();

  int of_side = 0, of_stream = 0;
  cudaStreamGetPriority(side, &of_side);
  cudaStreamGetPriority(stream, &of_stream);
  EXPECT_LT(of_side, of_stream);

  device_test::run_streams_late();
  const int64_t before = emulated::mma_products();
  cuda::attention_backward(dq, dk, dv, dout, q, k, v, out, {}, lse, delta, {}, {},
                           work.lists(words.data()), kHeads, kHeads, 1, side, stream);
  cudaStreamSynchronize(side);
  const int64_t of_keys = emulated::mma_products() - before;
  stream.synchronize();
  const int64_t of_queries = emulated::mma_products() - before - of_keys;
  device_test::run_streams_at_once();
  EXPECT_GT(of_queries, 0);
  EXPECT_GT(of_keys, of_queries);
}

// The one kernel takes 512 products for each of five matrices of a step, of which two samples of a
// few rows have one each; in the two kernels warps without rows rest. On compute capability 8.6 a
// block has no place for it.
TEST_F(TensorCoresOfAttention, HaveAJointBackward) {
  const int64_t separate = products(128, DType::kBF16).backward;
  const int64_t of_width_64 = products(64, DType::kBF16).backward;
  testing::internal::CaptureStderr();
  cuda_.join_attention(true);
  EXPECT_EQ(products(128, DType::kBF16).backward, 2 * kHeads * 5 * 512);
  EXPECT_EQ(products(64, DType::kBF16).backward, of_width_64);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("of width 64 runs in two kernels"),
            std::string::npos);
  cuda_.join_attention(false);
  EXPECT_EQ(products(128, DType::kBF16).backward, separate);
  emulated::set_compute_capability({.major = 8, .minor = 6});
  EXPECT_THROW(cuda_.join_attention(true), Error);
  emulated::set_compute_capability({});
}

// On a Hopper its own kernels take what they can.
class HopperOfAttention : public TensorCoresOfAttention {
 protected:
  // Whether the products of attention, forward and backward, are those of warpgroups.
  bool runs_it(int64_t width, DType dtype, const AttentionPlan& plan) {
    const ArenaScope scope(arena_);
    const int64_t rows = plan.samples.back().query_row_begin + plan.samples.back().num_query_rows;
    const auto matrix = [&] { return zeros({rows, kHeads * width}, dtype); };
    const Tensor q = matrix(), k = matrix(), v = matrix(), out = matrix(), dout = matrix(),
                 dq = matrix(), dk = matrix(), dv = matrix();
    const Tensor image = plan.num_slots == 2 ? matrix() : Tensor();
    const Tensor lse = zeros({plan.num_statistics(), kHeads, rows}, DType::kF32);
    const bool forward = multiplies_by_warpgroups(
        dtype, [&] { cuda_.attention_forward(out, lse, image, q, k, v, plan, kHeads, kHeads, 1); });
    const bool backward = multiplies_by_warpgroups(dtype, [&] {
      cuda_.attention_backward(dq, dk, dv, dout, q, k, v, out, image, lse, Rotation(), Rotation(),
                               plan, kHeads, kHeads, 1);
    });
    EXPECT_EQ(forward, backward);
    return forward;
  }

 private:
  template <typename Call>
  bool multiplies_by_warpgroups(DType dtype, const Call& call) {
    const int64_t before = emulated::wgmma_products();
    const int64_t others = products_of(call);
    EXPECT_EQ(others == 0, emulated::wgmma_products() > before || dtype == DType::kF32);
    return emulated::wgmma_products() > before;
  }
};

// Of a few rows the one kernel takes 64 products, as both of its warpgroups multiply, and the two
// kernels together 48.
TEST_F(HopperOfAttention, HasAJointBackward) {
  const AttentionPlan causal = op_test::causal_plan(kRows);
  const device_test::HopperDevice hopper;
  const auto products_of_pass = [&](const AttentionPlan& plan) {
    const int64_t before = emulated::wgmma_products();
    runs_it(128, DType::kBF16, plan);
    return emulated::wgmma_products() - before;
  };
  const int64_t separate = products_of_pass(causal);
  testing::internal::CaptureStderr();
  cuda_.join_attention(true);
  EXPECT_GT(products_of_pass(causal), separate);
  AttentionPlan window;
  std::vector<int32_t> positions(kRows);
  std::iota(positions.begin(), positions.end(), 0);
  limit_to_window(window, causal, positions, 3);
  EXPECT_FALSE(runs_it(128, DType::kBF16, window));
  EXPECT_FALSE(runs_it(64, DType::kBF16, causal));
  runs_it(64, DType::kBF16, causal);
  cuda_.join_attention(false);
  const std::string warnings = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(warnings.begin(), warnings.end(), '\n'), 2) << warnings;
  EXPECT_NE(warnings.find("of width 128 and a sliding window runs in two kernels"),
            std::string::npos)
      << warnings;
  EXPECT_NE(warnings.find("of width 64 runs in two kernels"), std::string::npos) << warnings;
  EXPECT_EQ(products_of_pass(causal), separate);
}

TEST_F(HopperOfAttention, MultipliesAtWidth128) {
  const AttentionPlan causal = op_test::causal_plan(kRows);
  EXPECT_FALSE(runs_it(128, DType::kBF16, causal)) << "on an older GPU";
  const device_test::HopperDevice hopper;
  EXPECT_TRUE(runs_it(128, DType::kBF16, causal));
  EXPECT_TRUE(runs_it(128, DType::kF16, causal));
  EXPECT_FALSE(runs_it(64, DType::kBF16, causal));
  EXPECT_FALSE(runs_it(128, DType::kF32, causal));
  using enum TokenKind;
  AttentionPlan plan;
  make_mmca_plan(plan, {0, 4}, {kText, kText, kImage, kImage}, {0, 2, 1, 3}, MmcaRule::kPublished);
  EXPECT_TRUE(runs_it(128, DType::kBF16, plan)) << "images within text, sorted";
  make_mmca_plan(plan, {0, 4}, {kText, kImage, kText, kImage}, {0, 1, 2, 3}, MmcaRule::kPublished);
  EXPECT_TRUE(runs_it(128, DType::kBF16, plan)) << "in a cache";
}

class TensorCoresOfLora : public TensorCores {
 protected:
  static constexpr int64_t kInputs = 64, kOutputs = 32;
  int64_t products(int64_t rank, DType dtype) {
    const ArenaScope scope(arena_);
    const Tensor y = zeros({kRows, kOutputs}, dtype), u = zeros({kRows, rank}, dtype),
                 x = zeros({kRows, kInputs}, dtype), right = zeros({kInputs, rank}, dtype),
                 left = zeros({rank, kOutputs}, dtype);
    return products_of([&] { cuda_.lora_forward_accumulate(y, u, x, right, left, 1); });
  }
};

TEST_F(TensorCoresOfLora, MultiplyWhereRanksAreMultiplesOf8) {
  for (const DType dtype : {DType::kBF16, DType::kF16})
    for (const int64_t rank : {8, 16, 128}) EXPECT_GT(products(rank, dtype), 0) << rank;
  EXPECT_EQ(products(12, DType::kBF16), 0);
  EXPECT_EQ(products(8, DType::kF32), 0);
}

// Counts what kernels store to a range of memory, while it lives; all else is for the observer
// before it.
class StoreCount final : public emulated::MemoryObserver {
 public:
  explicit StoreCount(const Tensor& range)
      : begin_(range.data<char>()), end_(begin_ + range.bytes()) {
    emulated::set_observer(this);
  }
  ~StoreCount() override { emulated::set_observer(before_); }

  int64_t bytes() const { return bytes_; }

 private:
  using Access = emulated::Access;
  using Site = emulated::Site;
  void fresh(const void* begin, size_t bytes) override {
    if (before_) before_->fresh(begin, bytes);
  }
  void closed(const void* begin, size_t bytes) override {
    if (before_) before_->closed(begin, bytes);
  }
  void guard(const void* begin, size_t bytes) override {
    if (before_) before_->guard(begin, bytes);
  }
  void undefined(const void* begin, size_t bytes) override {
    if (before_) before_->undefined(begin, bytes);
  }
  void operation_access(const void* begin, size_t bytes, Access access, Site where) override {
    if (before_) before_->operation_access(begin, bytes, access, where);
  }
  void copy_defined(const void* to, const void* from, size_t bytes) override {
    if (before_) before_->copy_defined(to, from, bytes);
  }
  void all_defined(const void* begin, size_t bytes) override {
    if (before_) before_->all_defined(begin, bytes);
  }
  void thread_access(const void* begin, size_t bytes, Access access, Site where) override {
    if (begin >= begin_ && begin < end_ && access == Access::kWrite)
      bytes_ += static_cast<int64_t>(bytes);
    if (before_) before_->thread_access(begin, bytes, access, where);
  }

  emulated::MemoryObserver* const before_ = emulated::observer();
  const char *const begin_, *const end_;
  int64_t bytes_ = 0;
};

// Of three layers with one input, which is as wide as each output: what their LoRA reads and writes
// in passes over matrices of that width, and in how many launches. One launch of each operator,
// which writes its output too, is the product of the layers themselves.
class PassesOfLora : public TensorCores {
 protected:
  static constexpr int64_t kN = 130, kWidth = 256, kRank = 16, kBytes = 2;
  static constexpr int64_t kBlocks = (kN + 63) / 64;           // of rows
  static constexpr int64_t kColumnBlocks = kWidth / 64;        // of gradients
  static constexpr int64_t kWide = kN * kWidth * kBytes;       // a pass
  static constexpr int64_t kNarrow = kN * kRank * kBytes;      // u; du has two
  static constexpr int64_t kFactor = kWidth * kRank * kBytes;  // right or left

  struct Cost {
    int64_t fetched, stored, launches;
    auto operator<=>(const Cost&) const = default;
  };
  friend void PrintTo(const Cost& cost, std::ostream* out) {
    *out << cost.fetched << " bytes fetched, " << cost.stored << " stored, " << cost.launches
         << " launches";
  }
  // `out`: the matrix whose stores are counted.
  template <typename Call>
  Cost cost_of(const Tensor& out, const Call& call) {
    cuda_.synchronize();
    const int64_t fetched = emulated::async_copied_bytes();
    const int64_t launches = device_test::host_calls().launches;
    const StoreCount stores(out);
    call();
    cuda_.synchronize();
    return {emulated::async_copied_bytes() - fetched, stores.bytes(),
            device_test::host_calls().launches - launches};
  }
  Tensor matrix(int64_t rows, int64_t cols) { return zeros({rows, cols}, DType::kBF16); }
  Tensor sums(int64_t rows, int64_t cols) { return zeros({rows, cols}, DType::kF32); }
  std::vector<LoraPart> parts(int64_t count) {
    std::vector<LoraPart> all;
    for (int64_t p = 0; p < count; ++p)
      all.push_back({p * kWidth, matrix(kN, kRank), matrix(kWidth, kRank), matrix(kRank, kWidth),
                     sums(kN, kRank), sums(kWidth, kRank), sums(kRank, kWidth)});
    return all;
  }
};

TEST_F(PassesOfLora, ForwardReadsTheInputAndWritesTheOutputOnce) {
  for (const int64_t count : {1, 2, 3}) {
    const ArenaScope scope(arena_);
    const auto lora = parts(count);
    const Tensor y = matrix(kN, count * kWidth), x = matrix(kN, kWidth),
                 weight = matrix(count * kWidth, kWidth);
    const auto forward = [&](const Tensor& residual) {
      return cost_of(y,
                     [&] { cuda_.lora_linear_forward(y, x, weight, Tensor(), residual, lora, 1); });
    };
    const int64_t factors = 2 * count * kBlocks * kFactor, outputs = count * kWide;
    EXPECT_EQ(forward(Tensor()), (Cost{kWide + factors, 2 * outputs, 2})) << count;
    EXPECT_EQ(forward(y), (Cost{kWide + factors + outputs, 2 * outputs, 2})) << count;
  }
}

TEST_F(PassesOfLora, BackwardReadsEachMatrixOnce) {
  for (const int64_t count : {1, 2, 3}) {
    const ArenaScope scope(arena_);
    const auto lora = parts(count);
    const Tensor dy = matrix(kN, count * kWidth), x = matrix(kN, kWidth), dx = matrix(kN, kWidth),
                 weight = matrix(count * kWidth, kWidth);
    const int64_t factors = count * (1 + kBlocks) * kFactor;           // left, right
    const int64_t narrow = count * (1 + 2 * kColumnBlocks) * kNarrow;  // u, and the halves of du
    EXPECT_EQ(cost_of(dx,
                      [&] {
                        cuda_.lora_linear_backward_input(dx, dy, weight, lora, 1);
                        cuda_.lora_backward_right(x, lora);
                      }),
              (Cost{(count + 1) * kWide + factors + narrow, 2 * kWide, 4}))
        << count;
  }
}

// Of Llama-2-7b, bytes that are written and read again beside those of dy, for its 8192 rows: the
// sums of du over 512 columns each and those of dleft over ranges of rows.
TEST(SumsOfLora, AreAQuarterOfTheOutputsGradientAtMost) {
  constexpr int64_t kRank = 16;
  float somewhere = 0;
  int64_t floats = 0, rows_of_dy = 8192;
  const auto share = [&](int64_t inputs, std::initializer_list<int64_t> outputs, int64_t rank) {
    const auto matrix = [](int64_t rows, int64_t cols) {
      return cuda::Operand{nullptr, rows, cols, cols, DType::kBF16};
    };
    std::vector<cuda::LoraOperands> parts;
    int64_t columns = 0;
    for (const int64_t of : outputs) {
      columns += of;
      parts.push_back({.y_NO = matrix(rows_of_dy, of),
                       .addend_NO = {},
                       .u_Nr = matrix(rows_of_dy, rank),
                       .right_Ir = matrix(inputs, rank),
                       .left_rO = matrix(rank, of),
                       .dleft_rO = {&somewhere, rank, of, of, DType::kF32}});
    }
    floats = cuda::lora_backward_floats(parts);
    return static_cast<double>(2 * 4 * floats) / static_cast<double>(rows_of_dy * columns * 2);
  };
  EXPECT_NEAR(share(4096, {4096, 4096, 4096}, kRank), 0.21, 0.01);  // q, k, v
  EXPECT_NEAR(share(4096, {4096}, kRank), 0.25, 0.01);              // o
  EXPECT_NEAR(share(4096, {11008, 11008}, kRank), 0.18, 0.01);      // gate, up
  EXPECT_EQ(4 * floats, 31'719'424) << "which `plan` counts (src/train/run_costs.cpp)";
  EXPECT_NEAR(share(11008, {4096}, kRank), 0.25, 0.01);  // down
  EXPECT_EQ(share(4096, {4096}, 64), 0);                 // which has no such sums
  rows_of_dy = int64_t{16} * 257;                        // images of CLIP-large
  share(1024, {4096}, kRank);
  EXPECT_EQ(4 * floats, 4'489'216) << "which `plan` counts too";
}

// SwiGLU with LoRA's first product of what it makes, and the layer that has it then.
class FirstProductInSwiglu : public PassesOfLora {
 protected:
  static constexpr int64_t kRowBlocks = (kN + 31) / 32;

  Cost swiglu() {
    const LoraDown down{lora_[0].u, lora_[0].right};
    return cost_of(x_, [&] { cuda_.swiglu_forward(x_, gate_up_, {&down, 1}); });
  }
  Cost layer() {
    return cost_of(
        y_, [&] { cuda_.lora_linear_forward(y_, x_, weight_, Tensor(), Tensor(), lora_, 1); });
  }
  static constexpr Cost kTogether{2 * kWide + kRowBlocks * kFactor, kWide, 1};
  static constexpr Cost kApart{kWide + kBlocks * kFactor, kWide, 2};

  const device_test::HopperDevice hopper_;
  const Tensor gate_up_ = matrix(kN, 2 * kWidth), x_ = matrix(kN, kWidth), y_ = matrix(kN, kWidth),
               weight_ = matrix(kWidth, kWidth);
  std::vector<LoraPart> lora_ = parts(1);
};

TEST_F(FirstProductInSwiglu, IsThereWhereItIsAskedFor) {
  EXPECT_FALSE(cuda_.takes_lora_downs());
  EXPECT_EQ(swiglu(), kApart);
  cuda_.join_lora(true);
  EXPECT_TRUE(cuda_.takes_lora_downs());
  EXPECT_EQ(swiglu(), kTogether);
}

TEST_F(FirstProductInSwiglu, TheLayerDoesNotReadItsInputForIt) {
  lora_[0].has_u = true;
  EXPECT_EQ(layer(), (Cost{kBlocks * kFactor, 2 * kWide, 2}));
  cuda_.join_lora(true);
  EXPECT_EQ(layer().launches, 1);
}

// On a GPU that has no fused products either. The emulation's times are equal, so a choice is one
// that a text brings.
TEST_F(FirstProductInSwiglu, IsChosenByShape) {
  emulated::set_compute_capability({});
  testing::internal::CaptureStderr();
  cuda_.choose_lora();
  EXPECT_NE(testing::internal::GetCapturedStderr().find("LoRA's first products alone"),
            std::string::npos);
  EXPECT_TRUE(cuda_.takes_lora_downs());
  EXPECT_EQ(swiglu(), kApart) << "before anything was timed";
  cuda_.time_products(false);
  swiglu();
  std::string text = cuda_.products().choices().text();
  const std::string of_swiglu = "LoRA in SwiGLU bf16 256, rank 16\t256\tseparate\n";
  ASSERT_NE(text.find(of_swiglu), std::string::npos) << text;
  EXPECT_EQ(swiglu(), kApart) << "a shape is timed once";
  text.replace(text.find("separate"), 8, "fused");
  cuda_.products().take_choices(cuda::ProductChoices::parse(text));
  EXPECT_EQ(swiglu(), kTogether);
  cuda_.products().take_choices({});
  EXPECT_EQ(swiglu(), kApart);
}

// A layer and its LoRA in one product: besides it there are u, du and the gradients, and no pass
// over y or dx.
class LoraInOneProduct : public TensorCores {
 protected:
  static constexpr int64_t kN = 130, kI = 72, kRank = 16, kWide = 264, kSlim = 40,
                           kO = kWide + kSlim, kRowBlocks = (kN + 63) / 64;

  struct Taken {
    int64_t launches, fetched, products, of_warpgroups, in_boxes;
  };
  template <typename Call>
  Taken taken_by(const Call& call) {
    const auto now = [] {
      return Taken{device_test::host_calls().launches, emulated::async_copied_bytes(),
                   emulated::mma_products(), emulated::wgmma_products(),
                   emulated::bulk_copied_bytes()};
    };
    const Taken before = now();
    call();
    cuda_.synchronize();
    const Taken after = now();
    return {after.launches - before.launches, after.fetched - before.fetched,
            after.products - before.products, after.of_warpgroups - before.of_warpgroups,
            after.in_boxes - before.in_boxes};
  }
  LoraPart part(int64_t begin, int64_t outputs, int64_t rank = kRank) {
    return {begin,
            half(kN, rank),
            half(kI, rank),
            half(rank, outputs),
            zeros({kN, rank}, DType::kF32),
            zeros({kI, rank}, DType::kF32),
            zeros({rank, outputs}, DType::kF32)};
  }
  Tensor half(int64_t rows, int64_t cols) { return zeros({rows, cols}, DType::kBF16); }
  // Each of the two warpgroups' eight warps counts four products a step of 64 terms.
  static int64_t products_of_steps(int64_t steps) { return steps * 4 * 8; }

  const device_test::HopperDevice hopper_;
  const Tensor x_ = half(kN, kI), y_ = half(kN, kO), weight_ = half(kO, kI), dx_ = half(kN, kI);
  const std::vector<LoraPart> parts_ = {part(0, kWide), part(kWide, kSlim)};
};

TEST_F(LoraInOneProduct, ForwardHasNoPassOverItsOutput) {
  cuda_.join_lora(true);
  const Taken all =
      taken_by([&] { cuda_.lora_linear_forward(y_, x_, weight_, Tensor(), Tensor(), parts_, 1); });
  EXPECT_EQ(all.launches, 2);
  EXPECT_EQ(all.fetched, 2 * kN * kI + 2 * kRowBlocks * 2 * kI * kRank);  // x, and R of both parts
  const int64_t tiles = 2 * (2 + 1);  // of rows, and of the columns of both parts
  EXPECT_EQ(all.of_warpgroups, products_of_steps(tiles * (2 + 1)));
  // Of both rows of tiles, the blocks read their own rows of x and u, but W and the left factors
  // once.
  const int64_t of_weight =
      256 + (kO - 256) + kSlim;  // rows, of tiles that may end past their part
  EXPECT_EQ(all.in_boxes, 2 * (3 * kN * (kI + kRank) + of_weight * kI + kO * kRank));
}

// Heads of 64 and 128 columns are turned where they are stored, others in a launch of their own.
TEST_F(LoraInOneProduct, ForwardTurnsHeadsWhereItStoresThem) {
  cuda_.join_lora(true);
  const std::vector<LoraPart> parts = {part(0, 128), part(128, 128)};
  const auto launches = [&](int64_t head_width, int64_t heads) {
    const Rotation angles{zeros({kN, head_width / 2}, DType::kF32),
                          zeros({kN, head_width / 2}, DType::kF32)};
    return taken_by([&] {
             cuda_.lora_linear_forward(y_, x_, weight_, Tensor(), Tensor(), parts, 1, angles,
                                       heads);
           })
        .launches;
  };
  EXPECT_EQ(launches(64, 2), 2);
  EXPECT_EQ(launches(128, 1), 2);
  EXPECT_EQ(launches(32, 4), 3);
  EXPECT_EQ(launches(64, 3), 3) << "heads end within the adapter of a part";
}

TEST_F(LoraInOneProduct, BackwardHasNoPassOverItsOutput) {
  cuda_.join_lora(true);
  const Taken narrow =
      taken_by([&] { cuda_.lora_linear_backward_input(Tensor(), y_, weight_, parts_, 1); });
  const Taken all =
      taken_by([&] { cuda_.lora_linear_backward_input(dx_, y_, weight_, parts_, 1); });
  EXPECT_EQ(all.launches, narrow.launches + 1);
  EXPECT_EQ(all.fetched, narrow.fetched);
  EXPECT_EQ(all.products, narrow.products);
  const int64_t steps = 5 + 2 * 2;  // of 304 outputs, and of both numbers of each part's du
  EXPECT_EQ(all.of_warpgroups, products_of_steps(2 * steps));
}

TEST_F(LoraInOneProduct, IsLeftAloneUnlessAskedFor) {
  EXPECT_EQ(taken_by([&] {
              cuda_.lora_linear_forward(y_, x_, weight_, Tensor(), Tensor(), parts_, 1);
              cuda_.lora_linear_backward_input(dx_, y_, weight_, parts_, 1);
            }).of_warpgroups,
            0);
}

TEST_F(LoraInOneProduct, RefusesOddRanksAndOtherGpus) {
  const auto refusal = [](const auto& call) {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kConfig);
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  cuda_.join_lora(true);
  const std::vector<LoraPart> odd = {part(0, kWide, 4)};
  EXPECT_NE(refusal([&] {
              cuda_.lora_linear_forward(y_, x_, weight_, Tensor(), Tensor(), odd, 1);
            }).find("the first of rank 4"),
            std::string::npos);
  emulated::set_compute_capability({});
  EXPECT_NE(refusal([&] { cuda_.join_lora(true); }).find("compute capability 9.0"),
            std::string::npos);
}

class LoraWays : public LoraInOneProduct {
 protected:
  ~LoraWays() override { emulated::set_wgmma_time(0); }
  void forward() { cuda_.lora_linear_forward(y_, x_, weight_, Tensor(), Tensor(), parts_, 1); }
  void backward() { cuda_.lora_linear_backward_input(dx_, y_, weight_, parts_, 1); }
  bool forward_is_fused() {
    return taken_by([&] { forward(); }).of_warpgroups > 0;
  }
  bool backward_is_fused() {
    return taken_by([&] { backward(); }).of_warpgroups > 0;
  }
};

// Choices are kept: of the times that come after they know nothing.
TEST_F(LoraWays, TheFasterIsTakenAndTakenAgainFromItsText) {
  cuda_.choose_lora();
  EXPECT_FALSE(forward_is_fused() || backward_is_fused()) << "before anything was timed";
  for (const bool fused : {true, false}) {
    emulated::set_wgmma_time(fused ? 0 : 1);
    cuda_.time_products(false);
    forward();
    emulated::set_wgmma_time(fused ? 1 : 0);
    EXPECT_EQ(forward_is_fused(), fused) << "a shape is timed once";
    emulated::set_wgmma_time(fused ? 0 : 1);
    backward();
    const std::string text = cuda_.products().choices().text();
    cuda_.products().take_choices({});
    EXPECT_FALSE(forward_is_fused() || backward_is_fused());
    emulated::set_wgmma_time(fused ? 1 : 0);
    cuda_.products().take_choices(cuda::ProductChoices::parse(text));
    EXPECT_EQ(forward_is_fused(), fused);
    EXPECT_EQ(backward_is_fused(), fused);
    EXPECT_EQ(cuda_.products().choices().text(), text);
  }
}

// Each way depends on the direction and on what is added to y.
TEST_F(LoraWays, EachShapeHasItsOwn) {
  cuda_.choose_lora();
  emulated::set_wgmma_time(1);
  cuda_.time_products(false);
  forward();
  emulated::set_wgmma_time(0);
  const Tensor residual = half(kN, kO);
  cuda_.lora_linear_forward(y_, x_, weight_, Tensor(), residual, parts_, 1);
  EXPECT_TRUE(backward_is_fused());
  EXPECT_FALSE(forward_is_fused());
  EXPECT_EQ(cuda_.products().choices().size(), 3);
  const Rotation angles{zeros({kN, 32}, DType::kF32), zeros({kN, 32}, DType::kF32)};
  cuda_.lora_linear_forward(y_, x_, weight_, Tensor(), Tensor(), parts_, 1, angles, 2);
  EXPECT_EQ(cuda_.products().choices().size(), 4);
  EXPECT_NE(cuda_.products().choices().text().find(", heads of 64 turned in 128"),
            std::string::npos);
}

TEST_F(LoraWays, WhatHasOneWayIsNotTimed) {
  cuda_.choose_lora();
  cuda_.time_products(false);
  const std::vector<LoraPart> odd = {part(0, kWide, 4)};
  cuda_.lora_linear_forward(y_, x_, weight_, Tensor(), Tensor(), odd, 1);
  cuda_.lora_linear_backward_input(Tensor(), y_, weight_, parts_, 1);
  EXPECT_EQ(cuda_.products().choices().size(), 0);
  emulated::set_compute_capability({});
  testing::internal::CaptureStderr();
  cuda_.choose_lora();
  EXPECT_NE(testing::internal::GetCapturedStderr().find("the fused products need a GPU"),
            std::string::npos);
  cuda_.time_products(false);
  EXPECT_FALSE(forward_is_fused());
  EXPECT_EQ(cuda_.products().choices().size(), 0);
}

// Rows on 16-byte boundaries that end within a pack, and whole packs of rows that begin elsewhere.
TEST_F(LoraInOneProduct, TakesWholePacksOn16ByteBoundaries) {
  const std::vector<cuda::LoraPartOperands> parts = {
      {0, cuda::on_device(parts_[0].u), cuda::on_device(parts_[0].right),
       cuda::on_device(parts_[0].left), cuda::on_device(parts_[0].du)}};
  const auto takes = [&](const Tensor& x) {
    return cuda::lora_product_takes(cuda::on_device(y_), cuda::on_device(x),
                                    cuda::on_device(weight_), parts);
  };
  EXPECT_TRUE(takes(x_));
  EXPECT_FALSE(takes(x_.column_block(0, kI - 4)));
  EXPECT_FALSE(takes(half(kN, kI + 4).column_block(0, kI)));
}

}  // namespace
}  // namespace facet::kernel_test
