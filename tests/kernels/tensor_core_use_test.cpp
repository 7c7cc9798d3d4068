// Which calls reach the tensor cores: plain kernels would give the numbers too, much later.
#include <gtest/gtest.h>

#include "device/arena.h"
#include "emulated/kernels/copied_bytes.h"
#include "emulated/kernels/tensor_core.h"
#include "emulated/kernels/warpgroup.h"
#include "kernels/cuda/attention_work.h"
#include "tests/device/cuda/hopper_device.h"
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
  Arena arena_{"test", 1 << 20, cuda_.memory()};
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
              cuda_.attention_backward(dq, dk, dv, dout, q, k, v, out, Tensor(), lse, plan, kHeads,
                                       kHeads, 1);
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
      cuda_.attention_backward(dq, dk, dv, dout, q, k, v, out, image, lse, plan, kHeads, kHeads, 1);
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

// Besides the sums, which are read and written in place, kernels fetch each operand by cp.async: a
// wide matrix once a product, the narrow ones and the factors once for every block that needs them.
TEST_F(TensorCoresOfLora, EveryProductFetchesItsWideMatrixOnce) {
  constexpr int64_t kN = 130, kI = 264, kO = 200, kRank = 16, kBytes = 2;
  const auto blocks = [](int64_t size, int64_t of) { return (size + of - 1) / of; };
  const auto matrix = [&](int64_t rows, int64_t cols) { return zeros({rows, cols}, DType::kBF16); };
  const auto sums = [&](int64_t rows, int64_t cols) { return zeros({rows, cols}, DType::kF32); };
  const Tensor x = matrix(kN, kI), y = matrix(kN, kO), u = matrix(kN, kRank),
               right = matrix(kI, kRank), left = matrix(kRank, kO), dx = matrix(kN, kI),
               dright = sums(kI, kRank), dleft = sums(kRank, kO), du = sums(kN, kRank);
  const auto bytes_of = [&](const auto& call) {
    const int64_t before = emulated::async_copied_bytes();
    call();
    cuda_.synchronize();
    return emulated::async_copied_bytes() - before;
  };
  const auto narrow = [&](int64_t width) { return kN * width + blocks(kN, 64) * width * kRank; };
  const auto expand = [&](int64_t width, int64_t halves) {
    return blocks(width, 128) * kN * kRank * halves + blocks(kN, 64) * width * kRank;
  };
  const auto gradient = [&](int64_t width, int64_t halves) {
    return kN * width + blocks(width, 32) * kN * kRank * halves;
  };
  EXPECT_EQ(bytes_of([&] { cuda_.lora_forward_accumulate(y, u, x, right, left, 1); }),
            kBytes * (narrow(kI) + expand(kO, 1)));
  EXPECT_EQ(bytes_of([&] {
              cuda_.lora_backward_accumulate(dx, dright, dleft, du, y, x, u, right, left, 1);
            }),
            kBytes * (narrow(kO) + gradient(kO, 1) + gradient(kI, 2) + expand(kI, 2)));
}

}  // namespace
}  // namespace facet::kernel_test
