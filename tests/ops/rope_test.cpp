#include "kernels/cpu/backend.h"
#include "tests/ops/op_test.h"

namespace facet::op_test {
namespace {

template <typename T>
std::vector<T> naive_rope(const std::vector<T>& x, const std::vector<T>& cos,
                          const std::vector<T>& sin, int64_t rows, int64_t heads, int64_t width) {
  std::vector<T> y(x.size());
  const int64_t half = width / 2;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t c = 0; c < half; ++c) {
        const auto low = static_cast<size_t>((r * heads + h) * width + c);
        const auto high = low + static_cast<size_t>(half),
                   angle = static_cast<size_t>(r * half + c);
        y[low] = x[low] * cos[angle] - x[high] * sin[angle];
        y[high] = x[high] * cos[angle] + x[low] * sin[angle];
      }
  return y;
}

struct Shape {
  int64_t rows, heads, width;
};

class Rope : public testing::TestWithParam<Shape> {
 protected:
  Rope() {
    RandomStream stream(1, "angles");
    for (int64_t i = 0; i < n_ * e_ / 2; ++i) {
      const double angle = 100 * stream.uniform_double();
      cos_.push_back(static_cast<float>(std::cos(angle)));
      sin_.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  const int64_t n_ = GetParam().rows, h_ = GetParam().heads, e_ = GetParam().width;
  Values cos_, sin_;
  CpuBackend ops_{2};
};

TEST_P(Rope, ForwardTurnsHalfSplitPairs) {
  const Values x = random_values(n_ * h_ * e_, "x");
  Matrix y(n_, h_ * e_, x, 7), cos(n_, e_ / 2, cos_), sin(n_, e_ / 2, sin_);
  ops_.rope_forward(y.tensor(), cos.tensor(), sin.tensor(), h_);
  expect_as_good_as(y.values(), naive_rope(x, cos_, sin_, n_, h_, e_),
                    naive_rope(cast<float>(x), cast<float>(cos_), cast<float>(sin_), n_, h_, e_));
}

// <rotated x, dy> = <x, rotated back dy>: the map is linear, so that is its whole gradient.
TEST_P(Rope, BackwardIsTheTransposedRotation) {
  const Values x = random_values(n_ * h_ * e_, "x"), dy = random_values(n_ * h_ * e_, "dy");
  Matrix dx(n_, h_ * e_, dy, 3), cos(n_, e_ / 2, cos_), sin(n_, e_ / 2, sin_);
  ops_.rope_backward(dx.tensor(), cos.tensor(), sin.tensor(), h_);
  const double bound = 1e-6 * std::sqrt(dot(x, x) * dot(dy, dy));
  EXPECT_NEAR(dot(dx.values(), x), dot(naive_rope(x, cos_, sin_, n_, h_, e_), dy), bound);
  if (n_ * h_ * e_ > 700) return;
  Values at = x;
  const auto loss = [&] { return dot(naive_rope(at, cos_, sin_, n_, h_, e_), dy); };
  EXPECT_LE(relative_error(dx.values(), finite_differences(at, loss)), kGradientError);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Rope,
                         testing::Values(Shape{1, 1, 2}, Shape{0, 2, 8}, Shape{7, 3, 10},
                                         Shape{257, 5, 64}),
                         [](const auto& info) {
                           return std::to_string(info.param.rows) + "x" +
                                  std::to_string(info.param.heads) + "x" +
                                  std::to_string(info.param.width);
                         });

}  // namespace
}  // namespace facet::op_test
