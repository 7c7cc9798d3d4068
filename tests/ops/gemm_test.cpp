#include "kernels/cpu/gemm.h"

#include <omp.h>

#include "kernels/cpu/backend.h"
#include "tests/ops/op_test.h"

namespace facet::op_test {
namespace {

facet::Matrix view(Matrix& m) { return facet::Matrix(m.tensor()); }

// Deeper than one piece of a transposed product, with every kind of beta.
TEST(Gemm, TransposedProductsInPiecesScaleTheOutputOnce) {
  const int64_t m = 33, n = 17, depth = 600;
  const Values a = random_values(depth * m, "a"), b = random_values(depth * n, "b"),
               c = random_values(m * n, "c");
  const Values product = multiply(transpose(a, depth, m), b, m, depth, n);
  const auto naive = multiply(transpose(cast<float>(a), depth, m), cast<float>(b), m, depth, n);
  for (const float beta : {0.0f, 0.5f, 1.0f}) {
    Matrix a_m(depth, m, a, 3), b_m(depth, n, b, 1), c_m(m, n, 5);
    if (beta != 0) c_m.set(c);  // else NaN: beta = 0 does not read
    Values expected = product;
    std::vector<float> expected_fp32 = naive;
    for (size_t i = 0; i < c.size(); ++i) {
      expected[i] = 2 * product[i] + beta * c[i];
      expected_fp32[i] = 2 * naive[i] + beta * static_cast<float>(c[i]);
    }
    gemm(Transpose::kYes, Transpose::kNo, 2, view(a_m), view(b_m), beta, view(c_m));
    expect_as_good_as(c_m.values(), expected, expected_fp32);
  }
}

TEST(Gemm, NoDepthLeavesBetaTimesTheOutput) {
  Matrix a(0, 3), b(0, 2), c(3, 2, Values(6, 4)), d(3, 2);
  gemm(Transpose::kYes, Transpose::kNo, 1, view(a), view(b), 0.5f, view(c));
  EXPECT_EQ(c.values(), Values(6, 2));
  gemm(Transpose::kYes, Transpose::kNo, 1, view(a), view(b), 0, view(d));
  EXPECT_EQ(d.values(), Values(6, 0));
}

// A small product runs on one thread; what comes after it has all of them again.
TEST(Gemm, ASmallProductLeavesTheNumberOfThreads) {
  const CpuBackend ops(3);
  Matrix a(1, 4, Values(4, 1)), b(4, 2, Values(8, 1)), c(1, 2);
  gemm(Transpose::kNo, Transpose::kNo, 1, view(a), view(b), 0, view(c));
  EXPECT_EQ(c.values(), Values(2, 4));
  EXPECT_EQ(omp_get_max_threads(), 3);
}

// An error that left the threads' part would end the process.
TEST(Gemm, ByColumnsRefusesShapesThatDoNotFit) {
  const CpuBackend ops(2);
  Matrix a(64, 64, Values(64 * 64, 1)), b(128, 65, Values(128 * 65, 1)), c(64, 128);
  EXPECT_THROW(gemm_by_columns(view(a), view(b), 0, view(c)), Error);
}

}  // namespace
}  // namespace facet::op_test
