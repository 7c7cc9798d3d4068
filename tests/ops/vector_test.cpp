#include "base/half.h"
#include "kernels/cpu/backend.h"
#include "tests/ops/op_test.h"

namespace facet::op_test {
namespace {

struct Layout {
  int64_t rows, cols, gap;
};

class Vectors : public testing::TestWithParam<Layout> {
 protected:
  const int64_t rows_ = GetParam().rows, cols_ = GetParam().cols, gap_ = GetParam().gap;
  const Values x_ = random_values(rows_ * cols_, "x"), y_ = random_values(rows_ * cols_, "y");
  CpuBackend ops_{2};
};

TEST_P(Vectors, FillCopyAndAdd) {
  Matrix x(rows_, cols_, x_, gap_), y(rows_, cols_, 2), sum(rows_, cols_, y_, gap_);
  ops_.copy(y.tensor(), x.tensor());
  EXPECT_TRUE(y.same_bits(x));
  ops_.add_accumulate(sum.tensor(), x.tensor());
  const std::vector<float> expected = sum_of(cast<float>(y_), cast<float>(x_));
  EXPECT_EQ(cast<float>(sum.values()), expected);
  ops_.fill(x.tensor(), 1.5f);
  EXPECT_EQ(x.values(), Values(x_.size(), 1.5));
}

TEST_P(Vectors, CopyBetweenTypesConverts) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    Matrix x(rows_, cols_, x_, gap_), back(rows_, cols_, 2);
    std::vector<uint16_t> words(static_cast<size_t>(rows_ * (cols_ + 3)), 0xabcd);
    const Tensor half = Tensor(words.data(), {rows_, cols_ + 3}, dtype).column_block(0, cols_);
    ops_.copy(half, x.tensor());
    for (int64_t i = 0; i < rows_ * (cols_ + 3); ++i) {
      const int64_t r = i / (cols_ + 3), c = i % (cols_ + 3);
      ASSERT_EQ(words[static_cast<size_t>(i)],
                c < cols_ ? round_to_16_bits(x.at(r, c), dtype) : 0xabcd);
    }
    ops_.copy(back.tensor(), half);
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t c = 0; c < cols_; ++c)
        ASSERT_EQ(back.at(r, c),
                  float_from_16_bits(words[static_cast<size_t>(r * (cols_ + 3) + c)], dtype));
  }
}

// One after the other, each sum rounded to fp32; 16-bit rows count as the values they hold.
TEST_P(Vectors, RowsAreAddedInTheirOrder) {
  if (rows_ == 0) return;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    Matrix sum(1, cols_), total(1, cols_, Values(y_.begin(), y_.begin() + cols_));
    std::vector<float> x = cast<float>(x_);
    std::vector<uint16_t> bits(x.size());
    Matrix fp32(rows_, cols_, x_, gap_);
    Tensor rows = fp32.tensor();
    if (dtype != DType::kF32) {
      round_to_16_bits(bits.data(), x.data(), rows_ * cols_, dtype);
      widen(x.data(), bits.data(), rows_ * cols_, dtype);
      rows = Tensor(bits.data(), {rows_, cols_}, dtype);
    }
    std::vector<float> expected(x.begin(), x.begin() + cols_), expected_total;
    for (int64_t i = cols_; i < rows_ * cols_; ++i)
      expected[static_cast<size_t>(i % cols_)] += x[static_cast<size_t>(i)];
    for (int64_t c = 0; c < cols_; ++c)
      expected_total.push_back(static_cast<float>(y_[static_cast<size_t>(c)]) +
                               expected[static_cast<size_t>(c)]);
    ops_.sum_rows(sum.tensor().view({cols_}), rows);
    EXPECT_EQ(cast<float>(sum.values()), expected) << name_of(dtype);
    ops_.sum_rows_accumulate(total.tensor().view({cols_}), rows);
    EXPECT_EQ(cast<float>(total.values()), expected_total) << name_of(dtype);
  }
}

TEST_P(Vectors, CopiesFromAndToTheHost) {
  Matrix x(rows_, cols_, gap_);
  const std::vector<float> host = cast<float>(x_);
  ops_.copy_from_host(x.tensor(), host.data());
  EXPECT_EQ(x.values(), x_);
  std::vector<float> back(host.size(), std::nanf(""));
  ops_.copy_to_host(back.data(), x.tensor());
  EXPECT_EQ(back, host);
}

INSTANTIATE_TEST_SUITE_P(Layouts, Vectors,
                         testing::Values(Layout{1, 1, 0}, Layout{0, 7, 0}, Layout{7, 97, 0},
                                         Layout{97, 257, 3}, Layout{1, 70001, 0}),
                         [](const auto& info) {
                           return std::to_string(info.param.rows) + "x" +
                                  std::to_string(info.param.cols) + "gap" +
                                  std::to_string(info.param.gap);
                         });

TEST(VectorOp, CopyMovesIntegersToo) {
  CpuBackend ops(1);
  std::vector<int32_t> from = {-7, 5, 1 << 30}, to(3, 0);
  ops.copy(Tensor(to.data(), {3}, DType::kI32), Tensor(from.data(), {3}, DType::kI32));
  EXPECT_EQ(to, from);
}

TEST(VectorOp, SumIsInDoubleAndTheSameForAnyNumberOfThreads) {
  const int64_t n = 70001;
  const Values x = random_values(n, "x");
  double expected = 0;
  for (const double value : x) expected += value;
  Matrix m(1, n, x);
  CpuBackend two(2);
  const double sum = two.sum(m.vector());
  const GradientStatistics statistics = two.gradient_statistics(m.vector());
  EXPECT_NEAR(sum, expected, 1e-10);
  EXPECT_NEAR(statistics.sum_squares, dot(x, x), 1e-8);
  CpuBackend one(1);
  EXPECT_EQ(one.sum(m.vector()), sum);
  EXPECT_EQ(one.gradient_statistics(m.vector()).sum_squares, statistics.sum_squares);
}

TEST(VectorOp, StatisticsNameTheFirstValueThatIsNotFinite) {
  const int64_t n = 70001;
  CpuBackend ops(2);
  Matrix m(1, n, Values(n, 1e30));
  EXPECT_EQ(ops.gradient_statistics(m.vector()).first_non_finite, -1)
      << "squares beyond fp32 are finite in double";
  m.at(0, 65000) = std::nanf("");
  EXPECT_EQ(ops.gradient_statistics(m.vector()).first_non_finite, 65000);
  m.at(0, 41) = -INFINITY;
  EXPECT_EQ(ops.gradient_statistics(m.vector()).first_non_finite, 41);
  EXPECT_EQ(ops.gradient_statistics(Tensor(&m.at(0, 0), {0}, DType::kF32)).first_non_finite, -1);
}

}  // namespace
}  // namespace facet::op_test
