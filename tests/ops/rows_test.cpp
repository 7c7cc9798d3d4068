// splice, gather, repeat and add_repeated: what moves is copied exactly, what is summed is summed
// in order.
#include "kernels/cpu/backend.h"
#include "tests/ops/op_test.h"

namespace facet::op_test {
namespace {

Tensor ints(std::vector<int32_t>& values) {
  return Tensor(values.data(), {static_cast<int64_t>(values.size())}, DType::kI32);
}

// Row `row` of a dense matrix of `cols` columns.
Values row_of(const Values& matrix, int64_t row, int64_t cols) {
  return Values(matrix.begin() + row * cols, matrix.begin() + (row + 1) * cols);
}

class Rows : public testing::TestWithParam<int64_t> {
 protected:
  const int64_t d_ = GetParam();  // width
  CpuBackend ops_{2};
};

TEST_P(Rows, SpliceTakesTokensAndImageRows) {
  std::vector<int32_t> source = {4, -1, -2, 0, 4, -3, 4};
  const Values embed = random_values(5 * d_, "embed"), image = random_values(3 * d_, "image");
  Matrix embed_m(5, d_, embed, 1), image_m(3, d_, image, 2), x(7, d_, 3);
  ops_.splice_forward(x.tensor(), embed_m.tensor(), image_m.tensor(), ints(source));
  for (size_t n = 0; n < source.size(); ++n)
    EXPECT_EQ(row_of(x.values(), static_cast<int64_t>(n), d_),
              source[n] >= 0 ? row_of(embed, source[n], d_) : row_of(image, -1 - source[n], d_));
}

TEST_P(Rows, SpliceBackwardSumsByTokenInOrder) {
  const int64_t n = 257, vocabulary = 7, images = 31;
  std::vector<int32_t> source;
  RandomStream stream(1, "source");
  for (int64_t i = 0; i < n; ++i)
    source.push_back(i % 8 == 3 && i / 8 < images ? static_cast<int32_t>(-1 - i / 8)
                                                  : static_cast<int32_t>(stream.below(vocabulary)));
  const Values dx = random_values(n * d_, "dx"), start = random_values(vocabulary * d_, "start");
  std::vector<float> dembed_expected = cast<float>(start);  // the same additions in the same order
  Values dimage_expected(static_cast<size_t>(images * d_));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < d_; ++c) {
      const double value = dx[static_cast<size_t>(i * d_ + c)];
      const int64_t s = source[static_cast<size_t>(i)];
      if (s >= 0)
        dembed_expected[static_cast<size_t>(s * d_ + c)] += static_cast<float>(value);
      else
        dimage_expected[static_cast<size_t>((-1 - s) * d_ + c)] = value;
    }
  Matrix dx_m(n, d_, dx, 1), dembed(vocabulary, d_, start, 3), dimage(images, d_, 2);
  ops_.splice_backward(dembed.tensor(), dimage.tensor(), dx_m.tensor(), ints(source));
  EXPECT_EQ(cast<float>(dembed.values()), dembed_expected);
  EXPECT_EQ(dimage.values(), dimage_expected);

  Matrix dembed_alone(vocabulary, d_, start), dimage_alone(images, d_);
  ops_.splice_backward(dembed_alone.tensor(), Tensor(), dx_m.tensor(), ints(source));
  ops_.splice_backward(Tensor(), dimage_alone.tensor(), dx_m.tensor(), ints(source));
  EXPECT_TRUE(dembed_alone.same_bits(dembed));
  EXPECT_TRUE(dimage_alone.same_bits(dimage));
}

TEST_P(Rows, GatherAndItsTransposed) {
  std::vector<int32_t> index = {5, 0, 3};
  const Values x = random_values(6 * d_, "x"), dy = random_values(3 * d_, "dy");
  Matrix x_m(6, d_, x, 1), y(3, d_, 2), dy_m(3, d_, dy, 3), dx(6, d_, 4);
  ops_.gather_rows_forward(y.tensor(), x_m.tensor(), ints(index));
  ops_.gather_rows_backward(dx.tensor(), dy_m.tensor(), ints(index));
  const Values zero(static_cast<size_t>(d_), 0);
  for (int64_t r = 0; r < 3; ++r) {
    EXPECT_EQ(row_of(y.values(), r, d_), row_of(x, index[static_cast<size_t>(r)], d_));
    EXPECT_EQ(row_of(dx.values(), index[static_cast<size_t>(r)], d_), row_of(dy, r, d_));
  }
  for (const int64_t r : {1, 2, 4}) EXPECT_EQ(row_of(dx.values(), r, d_), zero);
}

TEST_P(Rows, RepeatAndItsTransposed) {
  const int64_t m = 7, copies = 3;
  const Values x = random_values(m * d_, "x"), dy = random_values(copies * m * d_, "dy");
  Matrix x_m(m, d_, x, 1), y(copies * m, d_, 2), dy_m(copies * m, d_, dy, 1), dx(m, d_, 3);
  ops_.repeat_rows_forward(y.tensor(), x_m.tensor(), copies);
  for (int64_t r = 0; r < copies * m; ++r)
    EXPECT_EQ(row_of(y.values(), r, d_), row_of(x, r % m, d_));
  ops_.repeat_rows_backward(dx.tensor(), dy_m.tensor(), copies);
  EXPECT_NEAR(dot(dx.values(), x), dot(y.values(), dy), 1e-6 * dot(dy, dy));
}

TEST_P(Rows, AddRepeatedRowsAndItsTransposed) {
  const int64_t m = 7, copies = 3;
  const Values x = random_values(copies * m * d_, "x"), rows = random_values(m * d_, "rows"),
               dy = random_values(copies * m * d_, "dy"), start = random_values(m * d_, "start");
  Matrix x_m(copies * m, d_, x, 1), rows_m(m, d_, rows, 2), y(copies * m, d_, 3),
      dy_m(copies * m, d_, dy), drows(m, d_, start);
  ops_.add_repeated_rows_forward(y.tensor(), x_m.tensor(), rows_m.tensor());
  for (int64_t r = 0; r < copies * m; ++r)
    for (int64_t c = 0; c < d_; ++c)
      EXPECT_EQ(y.at(r, c), static_cast<float>(x[static_cast<size_t>(r * d_ + c)]) +
                                static_cast<float>(rows[static_cast<size_t>(r % m * d_ + c)]));
  ops_.add_repeated_rows_forward(x_m.tensor(), x_m.tensor(), rows_m.tensor());
  EXPECT_TRUE(x_m.same_bits(y)) << "in place";
  ops_.add_repeated_rows_backward(drows.tensor(), dy_m.tensor());
  Values expected = start;
  for (int64_t i = 0; i < copies * m * d_; ++i)
    expected[static_cast<size_t>(i % (m * d_))] += dy[static_cast<size_t>(i)];
  EXPECT_LE(relative_error(drows.values(), expected), 2e-7);
}

INSTANTIATE_TEST_SUITE_P(Widths, Rows, testing::Values(1, 7, 97, 257));

TEST(RowsOp, NoRowsAreLegal) {
  CpuBackend ops(2);
  std::vector<int32_t> none, one = {0};
  Matrix empty(0, 5), embed(3, 5, Values(15, 1)), dembed(3, 5, Values(15, 2)),
      x(3, 5, Values(15, 3));
  ops.splice_forward(empty.tensor(), embed.tensor(), empty.tensor(), ints(none));
  ops.splice_backward(dembed.tensor(), empty.tensor(), empty.tensor(), ints(none));
  EXPECT_EQ(dembed.values(), Values(15, 2));
  ops.gather_rows_forward(empty.tensor(), embed.tensor(), ints(none));
  ops.gather_rows_backward(x.tensor(), empty.tensor(), ints(none));
  EXPECT_EQ(x.values(), Values(15, 0)) << "nobody gathered, every gradient is 0";
  ops.repeat_rows_forward(empty.tensor(), embed.tensor(), 0);
  ops.repeat_rows_backward(embed.tensor(), empty.tensor(), 0);
  EXPECT_EQ(embed.values(), Values(15, 0));
  ops.add_repeated_rows_forward(empty.tensor(), empty.tensor(), embed.tensor());
  ops.add_repeated_rows_backward(dembed.tensor(), empty.tensor());
  EXPECT_EQ(dembed.values(), Values(15, 2));
}

TEST(RowsOp, WrongRowsAreRefused) {
  CpuBackend ops(1);
  Matrix embed(3, 2, Values(6, 1)), image(1, 2, Values(2, 1)), x(1, 2);
  for (const int32_t bad : {3, -2}) {
    std::vector<int32_t> source = {bad};
    EXPECT_THROW(ops.splice_forward(x.tensor(), embed.tensor(), image.tensor(), ints(source)),
                 Error);
    EXPECT_THROW(ops.gather_rows_forward(x.tensor(), embed.tensor(), ints(source)), Error);
  }
}

}  // namespace
}  // namespace facet::op_test
