// The kernels that sum rows and whole matrices against the CPU backend and fp64.
#include <numeric>

#include "kernels/cuda/launchers.h"
#include "tests/kernels/parity.h"

namespace facet::kernel_test {
namespace {

constexpr int64_t kFewElements = 2048;  // in every order of threads

class SumParity : public Parity {};

// The order of the rows is promised, so the bits are those of the CPU backend.
TEST_P(SumParity, Rows) {
  ParityMatrix& x = matrix("x", d_, Role::kIn);
  ParityMatrix& sum = vector("sum", d_, DType::kF32, Role::kOut);
  ParityMatrix& total = vector("total", d_, DType::kF32, Role::kInOut);
  const auto launch = [&] {
    cuda::sum_rows(sum.device_f32(), x.device(), stream_);
    cuda::sum_rows_accumulate(total.device_f32(), x.device(), stream_);
  };
  launch();
  if (n_ * d_ <= kFewElements) expect_same_bits_in_every_order(launch);
  cpu().sum_rows(sum.host_vector(), x.host());
  cpu().sum_rows_accumulate(total.host_vector(), x.host());
  EXPECT_TRUE(same_bits(sum.of_gpu(), sum.of_cpu()));
  EXPECT_TRUE(same_bits(total.of_gpu(), total.of_cpu()));
}

// Enough rows for both kernels, also where every access is watched: three tiles and a tail.
std::vector<ParityCase> row_sums() {
  std::vector<ParityCase> cases = parity_cases();
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    for (const int64_t cols : {5, 40}) cases.push_back({dtype, 513, cols, 8});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Sizes, SumParity, testing::ValuesIn(row_sums()), name_of_case);
INSTANTIATE_TEST_SUITE_P(RealSizes, SumParity,
                         testing::ValuesIn(real_cases({{8192, 4096}, {4112, 4096}})), name_of_case);

TEST(SumRowsParity, TheSumOfNegativeZeroesIsOne) {
  const TestStream stream;
  for (const int64_t rows : {2, 97}) {
    ParityMatrix x(stream, "x", rows, 3, 0, DType::kF32, Role::kIn);
    ParityMatrix sum(stream, "sum", 1, 3, 0, DType::kF32, Role::kOut);
    x.set(Values(static_cast<size_t>(rows * 3), -0.0));
    cuda::sum_rows(sum.device_f32(), x.device(), stream);
    EXPECT_TRUE(same_bits(sum.of_gpu(), Values(3, -0.0))) << rows;
  }
}

class TotalParity : public Parity {
 protected:
  DeviceBuffer<double> result_{1}, parts_{cuda::kSumParts};

  double total_of(ParityMatrix& x) {
    cuda::sum(result_.data(), parts_.data(), x.device(), stream_);
    return result_.download(stream_)[0];
  }
};

TEST_P(TotalParity, TheSumIsThatOfFp64) {
  ParityMatrix& x = matrix("x", d_, Role::kIn);
  const double exact = std::accumulate(x.start().begin(), x.start().end(), 0.0);
  double size = 0;
  for (const double value : x.start()) size += std::fabs(value);
  const double first = total_of(x);
  EXPECT_NEAR(first, exact, 1e-14 * size);
  if (n_ * d_ > kFewElements) return;
  for_other_thread_orders([&] { EXPECT_EQ(total_of(x), first); });
}

// More elements than all parts process in one iteration, of one row and of many.
std::vector<ParityCase> totals() {
  std::vector<ParityCase> cases = parity_cases();
  cases.push_back({DType::kF32, 1, 300001, 0});
  cases.push_back({DType::kF32, 33000, 9, 0});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Sizes, TotalParity, testing::ValuesIn(totals()), name_of_case);
INSTANTIATE_TEST_SUITE_P(RealSizes, TotalParity, testing::ValuesIn(real_cases({{8192, 4096}})),
                         name_of_case);

TEST(TotalOfNothing, IsZero) {
  const TestStream stream;
  const DeviceBuffer<double> result(1), parts(cuda::kSumParts);
  cuda::sum(result.data(), parts.data(), {nullptr, 0, 8, 8, DType::kF32}, stream);
  EXPECT_EQ(result.download(stream)[0], 0);
}

}  // namespace
}  // namespace facet::kernel_test
