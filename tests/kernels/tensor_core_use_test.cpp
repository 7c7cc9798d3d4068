// Which calls reach the tensor cores: plain kernels would give the numbers too, much later.
#include <gtest/gtest.h>

#include "device/arena.h"
#include "emulated/device/devices.h"
#include "emulated/kernels/copied_bytes.h"
#include "emulated/kernels/tensor_core.h"
#include "emulated/kernels/warpgroup.h"
#include "kernels/cuda/attention_work.h"
#include "kernels/cuda/lora_product.h"
#include "kernels/cuda/operand_of.h"
#include "tests/device/cuda/device_under_test.h"
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

// On a Hopper its own kernel takes what it can.
class HopperOfAttention : public TensorCoresOfAttention {
 protected:
  // Whether the products of forward attention are those of warpgroups.
  bool runs_it(int64_t width, DType dtype, const AttentionPlan& plan) {
    const ArenaScope scope(arena_);
    const int64_t rows = plan.samples.back().query_row_begin + plan.samples.back().num_query_rows;
    const auto matrix = [&] { return zeros({rows, kHeads * width}, dtype); };
    const Tensor q = matrix(), k = matrix(), v = matrix(), out = matrix(), image = matrix();
    const Tensor lse = zeros({plan.num_slots, kHeads, rows}, DType::kF32);
    const int64_t before = emulated::wgmma_products();
    const int64_t others = products_of([&] {
      cuda_.attention_forward(out, lse, plan.num_slots == 2 ? image : Tensor(), q, k, v, plan,
                              kHeads, kHeads, 1);
    });
    EXPECT_EQ(others == 0, emulated::wgmma_products() > before || dtype == DType::kF32);
    return emulated::wgmma_products() > before;
  }
};

TEST_F(HopperOfAttention, MultipliesNeighbouringRowsAtWidth128) {
  const AttentionPlan causal = op_test::causal_plan(kRows);
  EXPECT_FALSE(runs_it(128, DType::kBF16, causal)) << "on an older GPU";
  const device_test::HopperDevice hopper;
  EXPECT_TRUE(runs_it(128, DType::kBF16, causal));
  EXPECT_TRUE(runs_it(128, DType::kF16, causal));
  EXPECT_FALSE(runs_it(64, DType::kBF16, causal));
  EXPECT_FALSE(runs_it(128, DType::kF32, causal));
  using enum TokenKind;
  AttentionPlan plan;
  make_mmca_plan(plan, {0, 4}, {kText, kText, kImage, kImage}, MmcaRule::kPublished);
  EXPECT_TRUE(runs_it(128, DType::kBF16, plan));
  make_mmca_plan(plan, {0, 4}, {kText, kImage, kText, kImage}, MmcaRule::kPublished);
  EXPECT_FALSE(runs_it(128, DType::kBF16, plan)) << "text rows are no neighbours";
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

// A layer and its LoRA in one product: besides it there are the narrow products and the gradients,
// and no pass over y or dx.
class LoraInOneProduct : public TensorCores {
 protected:
  static constexpr int64_t kN = 130, kI = 72, kRank = 16, kWide = 264, kSlim = 40,
                           kO = kWide + kSlim;

  struct Taken {
    int64_t launches, fetched, products, of_warpgroups;
  };
  template <typename Call>
  Taken taken_by(const Call& call) {
    const auto now = [] {
      return Taken{device_test::host_calls().launches, emulated::async_copied_bytes(),
                   emulated::mma_products(), emulated::wgmma_products()};
    };
    const Taken before = now();
    call();
    cuda_.synchronize();
    const Taken after = now();
    return {after.launches - before.launches, after.fetched - before.fetched,
            after.products - before.products, after.of_warpgroups - before.of_warpgroups};
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
  const Taken narrow = taken_by([&] {
    for (const LoraPart& p : parts_)
      cuda::lora_narrow_forward(cuda::operand_of(p.u), cuda::operand_of(x_),
                                cuda::operand_of(p.right), cuda_.stream());
  });
  const Taken all =
      taken_by([&] { cuda_.linear_lora_forward(y_, x_, weight_, Tensor(), Tensor(), parts_, 1); });
  EXPECT_EQ(all.launches, narrow.launches + 1);
  EXPECT_EQ(all.fetched, narrow.fetched);
  EXPECT_EQ(all.products, narrow.products);
  const int64_t tiles = 2 * (2 + 1);  // of rows, and of the columns of both parts
  EXPECT_EQ(all.of_warpgroups, products_of_steps(tiles * (2 + 1)));
}

TEST_F(LoraInOneProduct, BackwardHasNoPassOverItsOutput) {
  cuda_.join_lora(true);
  const Taken narrow = taken_by([&] {
    for (const LoraPart& p : parts_)
      cuda_.lora_backward_accumulate(Tensor(), p.dright, p.dleft, p.du,
                                     y_.column_block(p.begin, p.left.cols()), x_, p.u, p.right,
                                     p.left, 1);
  });
  for (const bool accumulates : {false, true}) {
    const Taken all =
        taken_by([&] { cuda_.linear_lora_backward(dx_, y_, x_, weight_, parts_, 1, accumulates); });
    EXPECT_EQ(all.launches, narrow.launches + 1);
    EXPECT_EQ(all.fetched, narrow.fetched);
    EXPECT_EQ(all.products, narrow.products);
    const int64_t steps = 5 + 2 * 2;  // of 304 outputs, and of both numbers of each part's du
    EXPECT_EQ(all.of_warpgroups, products_of_steps(2 * steps));
  }
}

TEST_F(LoraInOneProduct, IsLeftAloneUnlessAskedFor) {
  EXPECT_EQ(taken_by([&] {
              cuda_.linear_lora_forward(y_, x_, weight_, Tensor(), Tensor(), parts_, 1);
              cuda_.linear_lora_backward(dx_, y_, x_, weight_, parts_, 1, false);
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
              cuda_.linear_lora_forward(y_, x_, weight_, Tensor(), Tensor(), odd, 1);
            }).find("the first of rank 4"),
            std::string::npos);
  emulated::set_compute_capability({});
  EXPECT_NE(refusal([&] { cuda_.join_lora(true); }).find("compute capability 9.0"),
            std::string::npos);
}

}  // namespace
}  // namespace facet::kernel_test
