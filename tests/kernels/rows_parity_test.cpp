// The kernels that move, repeat and add rows and whole matrices, against the CPU backend. What is
// only moved keeps its bits.
#include <numeric>
#include <stdexcept>

#include "kernels/cuda/launchers.h"
#include "tests/kernels/parity.h"

namespace facet::kernel_test {
namespace {

constexpr int64_t kCopies = 3;

class RowsParity : public Parity {
 protected:
  ParityMatrix& in(const std::string& name, int64_t rows) {
    return add(name, rows, d_, gap_, dtype_, Role::kIn);
  }
  ParityMatrix& out(const std::string& name, int64_t rows) {
    return add(name, rows, d_, gap_, dtype_, Role::kOut);
  }
  // Sums of a few numbers, added in the same order and rounded once.
  static void expect_as_cpu(ParityMatrix& output) {
    EXPECT_LE(relative_error(output.of_gpu(), output.of_cpu()), 2 * op_test::kHalfUlp);
  }
};

TEST_P(RowsParity, Gather) {
  // Distinct rows of a larger matrix, in another order.
  const int64_t all = 2 * n_ + 1;
  std::vector<int32_t> index;
  for (int64_t i = 0; i < n_; ++i) index.push_back(static_cast<int32_t>(all - 1 - 2 * i));
  const DeviceBuffer<int32_t> device_index(index, stream_);
  const Tensor host_index(index.data(), {n_}, DType::kI32);
  ParityMatrix &x = in("x", all), &y = out("y", n_), &dy = in("dy", n_), &dx = out("dx", all);
  run_kernels([&] {
    cuda::gather_rows_forward(y.device(), x.device(), device_index.data(), stream_);
    cuda::gather_rows_backward(dx.device(), dy.device(), device_index.data(), stream_);
  });
  cpu().gather_rows_forward(y.host(), x.host(), host_index);
  cpu().gather_rows_backward(dx.host(), dy.host(), host_index);
  EXPECT_EQ(y.of_gpu(), y.of_cpu());
  EXPECT_EQ(dx.of_gpu(), dx.of_cpu());
}

TEST_P(RowsParity, Repeat) {
  ParityMatrix &x = in("x", n_), &y = out("y", kCopies * n_);
  ParityMatrix &dy = in("dy", kCopies * n_), &dx = out("dx", n_);
  run_kernels([&] {
    cuda::repeat_rows_forward(y.device(), x.device(), stream_);
    cuda::repeat_rows_backward(dx.device(), dy.device(), stream_);
  });
  cpu().repeat_rows_forward(y.host(), x.host(), kCopies);
  cpu().repeat_rows_backward(dx.host(), dy.host(), kCopies);
  EXPECT_EQ(y.of_gpu(), y.of_cpu());
  expect_as_cpu(dx);
}

TEST_P(RowsParity, AddRepeated) {
  ParityMatrix &x = in("x", kCopies * n_), &rows = in("rows", n_), &y = out("y", kCopies * n_);
  ParityMatrix& dy = in("dy", kCopies * n_);
  ParityMatrix& drows = add("drows", n_, d_, gap_, DType::kF32, Role::kInOut);
  run_kernels([&] {
    cuda::add_repeated_rows_forward(y.device(), x.device(), rows.device(), stream_);
    cuda::add_repeated_rows_backward(drows.device(), dy.device(), stream_);
  });
  cpu().add_repeated_rows_forward(y.host(), x.host(), rows.host());
  cpu().add_repeated_rows_backward(drows.host(), dy.host());
  EXPECT_EQ(y.of_gpu(), y.of_cpu());
  expect_as_cpu(drows);
}

TEST_P(RowsParity, FillCopyAndAdd) {
  ParityMatrix &x = in("x", n_), &moved = out("moved", n_), &filled = out("filled", n_);
  ParityMatrix& widened = add("widened", n_, d_, gap_, DType::kF32, Role::kOut);
  ParityMatrix& wide = add("wide", n_, d_, gap_, DType::kF32, Role::kIn);
  ParityMatrix& narrowed = out("narrowed", n_);
  ParityMatrix& sum = add("sum", n_, d_, gap_, dtype_, Role::kInOut);
  ParityMatrix& gradient = add("gradient", n_, d_, gap_, DType::kF32, Role::kInOut);
  run_kernels([&] {
    cuda::fill(filled.device(), 0.1f, stream_);
    cuda::copy(moved.device(), x.device(), stream_);
    cuda::copy(widened.device(), x.device(), stream_);
    cuda::copy(narrowed.device(), wide.device(), stream_);
    cuda::add_accumulate(sum.device(), x.device(), stream_);
    cuda::add_accumulate(gradient.device(), x.device(), stream_);
  });
  cpu().fill(filled.host(), 0.1f);
  cpu().copy(moved.host(), x.host());
  cpu().copy(widened.host(), x.host());
  cpu().copy(narrowed.host(), wide.host());
  cpu().add_accumulate(sum.host(), x.host());
  cpu().add_accumulate(gradient.host(), x.host());
  for (ParityMatrix* output : {&filled, &moved, &widened, &narrowed, &sum, &gradient})
    EXPECT_EQ(output->of_gpu(), output->of_cpu());
}

// NaNs are preserved bit for bit: no copy goes through fp32.
TEST(RowsOfOneType, AreCopiedBitByBit) {
  const TestStream stream;
  std::vector<uint16_t> patterns(1 << 16);
  std::iota(patterns.begin(), patterns.end(), uint16_t{0});
  const auto n = static_cast<int64_t>(patterns.size());
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    const DeviceBuffer<uint16_t> x(patterns, stream), y(n);
    cuda::copy({y.data(), 1, n, n, dtype}, {x.data(), 1, n, n, dtype}, stream);
    EXPECT_EQ(y.download(stream), patterns);
  }
}

// An error, not rows left as they are.
TEST(RowsOfOtherTypes, ReachNoKernel) {
  const TestStream stream;
  const DeviceBuffer<double> x(8);
  EXPECT_THROW(cuda::fill({x.data(), 1, 8, 8, DType::kF64}, 0, stream), std::invalid_argument);
}

// Nothing to do is no launch: a grid of no blocks would be an error.
TEST(EmptyMatrices, AreNotLaunched) {
  const TestStream stream;
  const cuda::Operand none{nullptr, 0, 8, 8, DType::kF32};
  cuda::fill(none, 0, stream);
  cuda::copy(none, none, stream);
  cuda::add_accumulate(none, none, stream);
  cuda::sum_rows(nullptr, none, stream);
  cuda::resize_positions_forward(none, none, stream);
  cuda::resize_positions_backward_accumulate(none, none, stream);
  cuda::gather_rows_forward(none, none, nullptr, stream);
  cuda::gather_rows_backward(none, none, nullptr, stream);
  cuda::repeat_rows_forward(none, none, stream);
  cuda::repeat_rows_backward(none, none, stream);
  cuda::add_repeated_rows_forward(none, none, none, stream);
  cuda::add_repeated_rows_backward(none, none, stream);
  cuda::splice_forward(none, none, none, nullptr, stream);
  cuda::splice_backward(none, none, none, nullptr, nullptr, stream);
  cuda::patch_rows_forward(none, nullptr, 28, 14, stream);
  cuda::vision_embed_forward(none, none, none, none, stream);
  cuda::vision_embed_backward(none, nullptr, none, none, stream);
  cuda::rms_norm_forward(none, nullptr, none, none, 1e-5f, stream);
  cuda::rms_norm_backward(none, nullptr, none, none, none, none, nullptr, none, stream);
  cuda::layer_norm_forward(none, nullptr, nullptr, none, none, none, 1e-5f, stream);
  cuda::layer_norm_backward(none, nullptr, nullptr, none, none, none, nullptr, nullptr, none,
                            stream);
  cuda::swiglu_forward(none, none, stream);
  cuda::swiglu_backward(none, none, none, none, stream);
  cuda::gelu_forward(none, none, stream);
  cuda::gelu_backward(none, none, none, stream);
  cuda::rope_forward(none, none, none, 1, stream);
  cuda::cross_entropy_forward(nullptr, none, nullptr, stream);
  cuda::cross_entropy_forward_backward(nullptr, none, nullptr, 1, stream);
  cuda::adamw_step(nullptr, nullptr, nullptr, none, nullptr, 0, {}, stream);
  stream.synchronize();
}

INSTANTIATE_TEST_SUITE_P(Sizes, RowsParity, testing::ValuesIn(parity_cases()), name_of_case);
INSTANTIATE_TEST_SUITE_P(RealSizes, RowsParity, testing::ValuesIn(real_cases({{2048, 4096}})),
                         name_of_case);

}  // namespace
}  // namespace facet::kernel_test
