#include "kernels/cpu/vector_math.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

namespace facet {
namespace {

// The largest |f(x) - exact(x)| in units of the last place of exact(x), over every 6101st float of
// [from, to].
template <typename Function, typename Exact>
double worst_ulp(Function f, Exact exact, float from, float to) {
  double worst = 0;
  const auto measure = [&](float x) {
    const double truth = exact(static_cast<double>(x));
    const float rounded = std::abs(static_cast<float>(truth));
    const double ulp =
        static_cast<double>(std::nextafter(rounded, std::numeric_limits<float>::infinity())) -
        static_cast<double>(rounded);
    worst = std::max(worst, std::abs(static_cast<double>(f(x)) - truth) / ulp);
  };
  const float end = std::max(std::abs(from), std::abs(to));
  for (uint32_t bits = 0; std::bit_cast<float>(bits) <= end; bits += 6101)
    for (const float x : {std::bit_cast<float>(bits), -std::bit_cast<float>(bits)})
      if (x >= from && x <= to) measure(x);
  return worst;
}

TEST(VectorMath, ExpIsRightToOneAndAHalfUlp) {
  EXPECT_LE(worst_ulp(
                fast_exp, [](double x) { return std::exp(x); }, -86.9f, 88.72f),
            1.5);
}

TEST(VectorMath, SigmoidIsRightToTwoAndAHalfUlp) {
  EXPECT_LE(worst_ulp(
                fast_sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, -86.0f, 87.0f),
            2.5);
}

TEST(VectorMath, ErfIsRightToOneAndAHalfUlp) {
  EXPECT_LE(worst_ulp(
                fast_erf, [](double x) { return std::erf(x); }, -6.0f, 6.0f),
            2);
}

TEST(VectorMath, EndsOfTheRange) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  EXPECT_EQ(fast_exp(0.0f), 1.0f);
  EXPECT_EQ(fast_exp(-0.0f), 1.0f);
  EXPECT_EQ(fast_exp(-87.1f), 0.0f);
  EXPECT_EQ(fast_exp(-infinity), 0.0f);
  EXPECT_EQ(fast_exp(89.0f), infinity);
  EXPECT_EQ(fast_exp(infinity), infinity);
  // The last values inside, where the exponent's bits are nearly used up.
  EXPECT_NEAR(fast_exp(88.72f) / std::exp(88.72), 1, 4e-6) << "88.72 itself is rounded to fp32";
  EXPECT_NEAR(fast_exp(-86.9f) / std::exp(-86.9), 1, 4e-6) << "rounded too";
  EXPECT_EQ(fast_sigmoid(-infinity), 0.0f);
  EXPECT_EQ(fast_sigmoid(infinity), 1.0f);
  EXPECT_EQ(fast_erf(infinity), 1.0f);
  EXPECT_EQ(fast_erf(-10.0f), -1.0f);
  EXPECT_TRUE(std::isnan(fast_exp(nan)));
  EXPECT_TRUE(std::isnan(fast_sigmoid(nan)));
  EXPECT_TRUE(std::isnan(fast_erf(nan)));
}

}  // namespace
}  // namespace facet
