// Linear layers with LoRA as one product, against fp64.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/lora_product.h"
#include "tests/device/cuda/hopper_device.h"
#include "tests/kernels/lora_backward.h"
#include "tests/kernels/parity.h"

namespace facet::kernel_test {
namespace {

using op_test::cast, op_test::multiply, op_test::sum_of, op_test::transpose;

struct Part {
  int64_t outputs, rank;  // rank 0: without LoRA
};
struct ProductCase {
  std::string name;
  DType dtype;
  int64_t rows, inputs;
  std::vector<Part> parts;
  int64_t gap;
  int blocks;
  int64_t heads = 0, head_width = 0;  // that are turned
  bool has_bias = false;
  int64_t angle_gap = 0;

  int64_t outputs() const {
    int64_t sum = 0;
    for (const Part& part : parts) sum += part.outputs;
    return sum;
  }
  operator ParityCase() const { return {dtype, rows, inputs, gap}; }
};

void PrintTo(const ProductCase& c, std::ostream* out) { *out << c.name; }

// The builds that watch every access take what has few rows, and one type.
std::vector<ProductCase> product_cases() {
  constexpr int64_t kFewRows = 130;
  struct Sizes {
    const char* name;
    int64_t rows, inputs;
    std::vector<Part> parts;
    int64_t gap;
    int blocks;
  };
  const std::vector<Sizes> all = {
      {"one_row", 1, 8, {{8, 8}}, 0, 1},
      {"tails", 7, 72, {{24, 8}, {16, 0}, {8, 16}}, 8, 2},
      {"qkv", 130, 136, {{264, 16}, {40, 16}, {40, 16}}, 8, 3},
      {"gate_up", 140, 456, {{272, 64}, {256, 64}}, 0, 1},
      {"long_rank", 40, 64, {{16, 0}, {200, 136}}, 0, 1},
      {"plain", 70, 200, {{136, 0}}, 8, 1},
      {"two_bands", 2100, 64, {{264, 8}}, 0, 5},
  };
  std::vector<ProductCase> cases;
  for (const DType dtype : {DType::kBF16, DType::kF16})
    for (const auto& [name, rows, inputs, parts, gap, blocks] : all)
      if (!every_access_is_watched() || (rows <= kFewRows && dtype == DType::kBF16))
        cases.push_back(
            {fmt::format("{}_{}", name, name_of(dtype)), dtype, rows, inputs, parts, gap, blocks});
  return cases;
}

class LoraProduct : public ParityRig, public testing::WithParamInterface<ProductCase> {
 protected:
  static constexpr float kScale = 0.75f;

  LoraProduct() : ParityRig(GetParam()) {}
  void SetUp() override {
    if (!hopper_.is_here()) GTEST_SKIP() << device_test::kNoHopper;
  }

  struct Adapter {
    int64_t begin, outputs, rank;
    ParityMatrix &u, &right, &left, &du;
  };
  std::vector<Adapter> make_adapters() {
    std::vector<Adapter> adapters;
    int64_t begin = 0;
    for (const auto& [outputs, rank] : GetParam().parts) {
      const auto name = [&](const char* of) { return fmt::format("{}{}", of, begin); };
      if (rank > 0)
        adapters.push_back({begin, outputs, rank, matrix(name("u"), rank, Role::kIn),
                            add(name("right"), i_, rank, 0, dtype_, Role::kIn),
                            add(name("left"), rank, outputs, 0, dtype_, Role::kIn),
                            add(name("du"), n_, rank, 0, DType::kF32, Role::kOut)});
      begin += outputs;
    }
    return adapters;
  }
  static std::vector<cuda::LoraPartOperands> operands(const std::vector<Adapter>& adapters) {
    std::vector<cuda::LoraPartOperands> parts;
    for (const Adapter& a : adapters)
      parts.push_back({a.begin, a.u.device(), a.right.device(), a.left.device(), a.du.device()});
    return parts;
  }
  // Adds scale block (rows, cols) to the columns of `sum` (rows, width) from `begin` on.
  template <typename T>
  static void add_block(std::vector<T>& sum, int64_t width, const std::vector<T>& block,
                        int64_t begin, int64_t cols, T scale) {
    for (size_t at = 0; at < block.size(); ++at) {
      const auto row = static_cast<int64_t>(at) / cols, col = static_cast<int64_t>(at) % cols;
      sum[static_cast<size_t>(row * width + begin + col)] += scale * block[at];
    }
  }
  template <typename T>
  static std::vector<T> block_of(const std::vector<T>& x, int64_t width, int64_t begin,
                                 int64_t cols) {
    std::vector<T> block;
    for (size_t row = 0; row < x.size() / static_cast<size_t>(width); ++row)
      for (int64_t c = 0; c < cols; ++c)
        block.push_back(x[row * static_cast<size_t>(width) + static_cast<size_t>(begin + c)]);
    return block;
  }

  // At most as far from fp64 as twice what naive fp32 arithmetic is, rounded once.
  void expect_near(ParityMatrix& output, const Values& exact, const std::vector<float>& naive) {
    const Values plain = rounded(Values(naive.begin(), naive.end()), dtype_);
    EXPECT_LE(relative_error(output.of_gpu(), exact),
              2 * relative_error(plain, exact) + kRoundings);
  }

  void check_forward(ParityMatrix& y, ParityMatrix* bias, ParityMatrix* residual);

  const device_test::HopperDevice hopper_;
  const int64_t i_ = GetParam().inputs, o_ = GetParam().outputs();
  ParityMatrix& x_ = matrix("x", i_, Role::kIn);
  ParityMatrix& weight_ = add("weight", o_, i_, gap_, dtype_, Role::kIn);
  const std::vector<Adapter> adapters_ = make_adapters();
};

cuda::Operand device_of(ParityMatrix* m) { return m ? m->device() : cuda::Operand{}; }

void LoraProduct::check_forward(ParityMatrix& y, ParityMatrix* bias, ParityMatrix* residual) {
  run_kernels([&] {
    cuda::lora_product_forward(y.device(), x_.device(), weight_.device(), device_of(bias),
                               device_of(residual), operands(adapters_), kScale, {},
                               GetParam().blocks, stream_);
  });
  const auto outputs = [&](auto zero) {
    using T = decltype(zero);
    auto sum =
        multiply(cast<T>(x_.start()), transpose(cast<T>(weight_.start()), o_, i_), n_, i_, o_);
    for (const Adapter& a : adapters_)
      add_block(sum, o_,
                multiply(cast<T>(a.u.start()), cast<T>(a.left.start()), n_, a.rank, a.outputs),
                a.begin, a.outputs, T(kScale));
    for (size_t at = 0; bias && at < sum.size(); ++at)
      sum[at] += static_cast<T>(bias->start()[at % static_cast<size_t>(o_)]);
    return residual ? sum_of(sum, cast<T>(residual->start())) : sum;
  };
  expect_near(y, outputs(0.0), outputs(0.0f));
}

TEST_P(LoraProduct, Forward) { check_forward(matrix("y", o_, Role::kOut), nullptr, nullptr); }

TEST_P(LoraProduct, ForwardWithBiasAndResidual) {
  ParityMatrix& bias = vector("bias", o_, dtype_, Role::kIn);
  check_forward(matrix("y", o_, Role::kOut), &bias, &matrix("residual", o_, Role::kIn));
}

TEST_P(LoraProduct, TheResidualMayBeTheOutput) {
  ParityMatrix& y = matrix("y", o_, Role::kInOut);
  check_forward(y, nullptr, &y);
}

// Its du is what the pass over dy stores: two numbers of 16 bits each.
TEST_P(LoraProduct, BackwardInput) {
  ParityMatrix& dx = matrix("dx", i_, Role::kOut);
  ParityMatrix& dy = matrix("dy", o_, Role::kIn);
  const auto part_of_dy = [&](const Adapter& a) {
    cuda::Operand part = dy.device();
    part.data = static_cast<uint16_t*>(part.data) + a.begin;
    part.cols = a.outputs;
    return part;
  };
  run_kernels([&] {
    for (const Adapter& a : adapters_) {
      const cuda::LoraOperands part{.y_NO = part_of_dy(a),
                                    .addend_NO = {},
                                    .u_Nr = a.u.device(),
                                    .right_Ir = a.right.device(),
                                    .left_rO = a.left.device(),
                                    .du_Nr = a.du.device()};
      lora_backward_input({&part, 1}, {}, {}, kScale, 1, stream_);
    }
    cuda::lora_product_backward_input(dx.device(), dy.device(), weight_.device(),
                                      operands(adapters_), GetParam().blocks, stream_);
  });
  const auto gradient = [&](auto zero) {
    using T = decltype(zero);
    const auto of_y = cast<T>(dy.start());
    auto sum = multiply(of_y, cast<T>(weight_.start()), n_, o_, i_);
    for (const Adapter& a : adapters_) {
      auto du =
          multiply(block_of(of_y, o_, a.begin, a.outputs),
                   transpose(cast<T>(a.left.start()), a.rank, a.outputs), n_, a.outputs, a.rank);
      for (T& value : du) value *= T(kScale);
      add_block(sum, i_,
                multiply(du, transpose(cast<T>(a.right.start()), i_, a.rank), n_, a.rank, i_), 0,
                i_, T(1));
    }
    return sum;
  };
  expect_near(dx, gradient(0.0), gradient(0.0f));
}

INSTANTIATE_TEST_SUITE_P(Sizes, LoraProduct, testing::ValuesIn(product_cases()),
                         [](const auto& info) { return info.param.name; });

// Heads that are turned where they are stored, and some that are turned by a pass of their own.
std::vector<ProductCase> turned_cases() {
  struct Sizes {
    const char* name;
    int64_t rows;
    std::vector<Part> parts;
    int64_t heads, head_width;
    int blocks;
    bool has_bias;
    int64_t angle_gap = 4;  // to a 16-byte boundary
  };
  const std::vector<Sizes> all = {
      {"q_and_k_of_128", 130, {{384, 16}, {128, 16}, {128, 16}}, 4, 128, 1, true},
      {"q_and_k_of_64", 129, {{320, 8}, {64, 8}, {64, 8}}, 6, 64, 3, false},
      {"only_q", 7, {{64, 8}, {128, 8}}, 1, 64, 2, true},
      {"all", 70, {{256, 8}}, 2, 128, 1, false},
      {"ends_in_plain_columns", 30, {{128, 8}, {384, 0}}, 2, 128, 2, true},
      {"adapters_on_v", 30, {{192, 0}, {64, 0}, {64, 8}}, 4, 64, 2, false},
      {"of_80", 30, {{160, 8}, {80, 8}, {80, 8}}, 3, 80, 1, true},
      {"a_part_within_a_head", 30, {{96, 8}, {96, 8}}, 3, 64, 1, false},
      {"a_part_beyond_them", 30, {{384, 8}}, 1, 128, 1, false},
      {"angles_between_boundaries", 30, {{128, 8}}, 2, 64, 1, false, 1},
  };
  std::vector<ProductCase> cases;
  for (const DType dtype : {DType::kBF16, DType::kF16})
    for (const auto& [name, rows, parts, heads, width, blocks, has_bias, angle_gap] : all)
      if (!every_access_is_watched() || dtype == DType::kBF16)
        cases.push_back({fmt::format("{}_{}", name, name_of(dtype)), dtype, rows, 72, parts, 8,
                         blocks, heads, width, has_bias, angle_gap});
  return cases;
}

class LoraProductOfTurnedHeads : public LoraProduct {
 protected:
  const int64_t heads_ = GetParam().heads, half_ = GetParam().head_width / 2;
  ParityMatrix& cos_ = add("cos", n_, half_, GetParam().angle_gap, DType::kF32, Role::kIn);
  ParityMatrix& sin_ = add("sin", n_, half_, GetParam().angle_gap, DType::kF32, Role::kIn);
  ParityMatrix* const bias_ =
      GetParam().has_bias ? &vector("bias", o_, dtype_, Role::kIn) : nullptr;
};

TEST_P(LoraProductOfTurnedHeads, HasTheBitsOfAPass) {
  ParityMatrix& turned = matrix("turned", o_, Role::kOut);
  ParityMatrix& plain = matrix("plain", o_, Role::kOut);
  const cuda::RotationOperands rotation{cos_.device(), sin_.device(), heads_};
  const auto multiply = [&](ParityMatrix& y, const cuda::RotationOperands& by) {
    cuda::lora_product_forward(y.device(), x_.device(), weight_.device(), device_of(bias_), {},
                               operands(adapters_), kScale, by, GetParam().blocks, stream_);
  };
  run_kernels([&] {
    multiply(turned, rotation);
    multiply(plain, {});
  });
  const Values unturned = plain.of_gpu();
  cuda::Operand heads = plain.device();
  heads.cols = rotation.columns();
  cuda::rope_forward(heads, cos_.device(), sin_.device(), heads_, stream_);
  EXPECT_TRUE(same_bits(turned.of_gpu(), plain.of_gpu()));
  EXPECT_FALSE(same_bits(turned.of_gpu(), unturned));
}

INSTANTIATE_TEST_SUITE_P(Heads, LoraProductOfTurnedHeads, testing::ValuesIn(turned_cases()),
                         [](const auto& info) { return info.param.name; });

// Whichever of a cluster's blocks, or of their warps, lags behind the others by as much as they let
// it: more tiles, of which those of the last rows are past the end, than the ring has stages; steps
// of adapters and of angles among them.
class LoraProductLate : public LoraProductOfTurnedHeads {};

TEST_P(LoraProductLate, HasTheSameBits) {
  ParityMatrix& y = matrix("y", o_, Role::kOut);
  const auto bits_of_y = [&] {
    y.upload();
    cuda::lora_product_forward(y.device(), x_.device(), weight_.device(), device_of(bias_), {},
                               operands(adapters_), kScale, {cos_.device(), sin_.device(), heads_},
                               GetParam().blocks, stream_);
    return y.of_gpu();
  };
  const Values first = bits_of_y();
  for (const int block : {0, 1}) {
    device_test::delay_block(block);
    EXPECT_TRUE(same_bits(bits_of_y(), first)) << "block " << block;
  }
  constexpr int kWarps = 12;  // of a block; the first one fetches, the last eight multiply
  for (const int warp : {0, 4, 11, kWarps, kWarps + 4, kWarps + 11}) {
    device_test::delay_warp(warp);
    EXPECT_TRUE(same_bits(bits_of_y(), first)) << "warp " << warp;
  }
  device_test::set_thread_order(0);
}

INSTANTIATE_TEST_SUITE_P(
    Heads, LoraProductLate,
    testing::Values(
        ProductCase{"q_and_k_of_128",
                    DType::kBF16,
                    270,
                    72,
                    {{384, 16}, {128, 16}, {128, 16}},
                    8,
                    2,
                    4,
                    128,
                    true,
                    4},
        ProductCase{
            "angles_behind_every_step", DType::kBF16, 270, 64, {{512, 0}}, 0, 2, 4, 128, false, 4}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace facet::kernel_test
