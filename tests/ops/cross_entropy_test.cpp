#include <algorithm>

#include "kernels/cpu/backend.h"
#include "tests/ops/op_test.h"

namespace facet::op_test {
namespace {

template <typename T>
std::vector<T> naive_loss(const std::vector<T>& logits, const std::vector<int32_t>& labels,
                          int64_t classes) {
  std::vector<T> loss;
  for (size_t r = 0; r < labels.size(); ++r) {
    const T* row = logits.data() + static_cast<int64_t>(r) * classes;
    const T highest = *std::max_element(row, row + classes);
    T sum = 0;
    for (int64_t c = 0; c < classes; ++c) sum += std::exp(row[c] - highest);
    loss.push_back(std::log(sum) + highest - row[labels[r]]);
  }
  return loss;
}

struct Shape {
  int64_t rows, classes;
};

class CrossEntropy : public testing::TestWithParam<Shape> {
 protected:
  CrossEntropy() {
    RandomStream stream(1, "labels");
    for (int64_t r = 0; r < r_; ++r)
      labels_.push_back(static_cast<int32_t>(stream.below(static_cast<uint64_t>(v_))));
  }
  Tensor labels() { return Tensor(labels_.data(), {r_}, DType::kI32); }

  const int64_t r_ = GetParam().rows, v_ = GetParam().classes;
  const Values logits_ = random_values(r_ * v_, "logits", 5);
  std::vector<int32_t> labels_;
  CpuBackend ops_{2};
};

TEST_P(CrossEntropy, RowLosses) {
  Matrix logits(r_, v_, logits_, 3), loss(1, r_), loss2(1, r_);
  ops_.cross_entropy_forward(loss.vector(), logits.tensor(), labels());
  expect_as_good_as(loss.values(), naive_loss(logits_, labels_, v_),
                    naive_loss(cast<float>(logits_), labels_, v_));
  EXPECT_EQ(logits.values(), logits_) << "forward alone leaves the logits";
  ops_.cross_entropy_forward_backward(loss2.vector(), logits.tensor(), labels(), 1);
  EXPECT_TRUE(loss2.same_bits(loss));
}

TEST_P(CrossEntropy, GradientReplacesTheLogits) {
  const float scale = 0.125f;
  Matrix logits(r_, v_, logits_, 1), again(r_, v_, logits_), loss(1, r_);
  ops_.cross_entropy_forward_backward(loss.vector(), logits.tensor(), labels(), scale);
  ops_.cross_entropy_forward_backward(loss.vector(), again.tensor(), labels(), scale);
  EXPECT_TRUE(again.same_bits(logits)) << "two runs";
  const Values gradient = logits.values();
  Values at = logits_;
  const auto total = [&] {
    double sum = 0;
    for (const double row : naive_loss(at, labels_, v_)) sum += scale * row;
    return sum;
  };
  const Values direction = random_values(r_ * v_, "direction");
  EXPECT_NEAR(dot(gradient, direction), directional_derivative(at, direction, total),
              2e-6 * std::sqrt(dot(gradient, gradient) * dot(direction, direction)) + 1e-9);
  if (r_ * v_ > 700) return;
  EXPECT_LE(relative_error(gradient, finite_differences(at, total)), kGradientError);
}

INSTANTIATE_TEST_SUITE_P(Shapes, CrossEntropy,
                         testing::Values(Shape{0, 7}, Shape{1, 1}, Shape{7, 97}, Shape{97, 257},
                                         Shape{3, 32003}),
                         [](const auto& info) {
                           return std::to_string(info.param.rows) + "x" +
                                  std::to_string(info.param.classes);
                         });

TEST(CrossEntropyOp, LargeLogitsNeitherOverflowNorVanish) {
  CpuBackend ops(1);
  std::vector<int32_t> labels = {1, 0};
  Matrix logits(2, 2, {30000, 29999, -30000, 30000}), loss(1, 2);
  ops.cross_entropy_forward(loss.vector(), logits.tensor(),
                            Tensor(labels.data(), {2}, DType::kI32));
  EXPECT_NEAR(loss.at(0, 0), 1.3132617, 1e-6);
  EXPECT_EQ(loss.at(0, 1), 60000);
}

TEST(CrossEntropyOp, AnImpossibleLabelIsRefusedAndNaNShows) {
  CpuBackend ops(1);
  Matrix logits(1, 3, {1, 2, 3}), loss(1, 1);
  for (int32_t bad : {-100, 3})
    EXPECT_THROW(
        ops.cross_entropy_forward(loss.vector(), logits.tensor(), Tensor(&bad, {1}, DType::kI32)),
        Error);
  int32_t label = 0;
  logits.at(0, 1) = std::nanf("");
  ops.cross_entropy_forward(loss.vector(), logits.tensor(), Tensor(&label, {1}, DType::kI32));
  EXPECT_TRUE(std::isnan(loss.at(0, 0)));
}

}  // namespace
}  // namespace facet::op_test
