// How products are computed. Of cuBLASLt's algorithms the emulation has several, whose results
// differ in the last bits, and times that a test sets.
#include "kernels/cuda/product_choices.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "base/check.h"
#include "kernels/cuda/linear.h"
#include "tests/environment.h"
#include "tests/kernels/device_buffer.h"

namespace facet::kernel_test {
namespace {

using Starts = std::array<int64_t, emulated::kAlgorithms>;

std::vector<float> waves(size_t count, float step) {
  std::vector<float> values;
  for (size_t i = 0; i < count; ++i) values.push_back(std::sin(step * static_cast<float>(i)));
  return values;
}

class ProductChoices : public testing::Test {
 protected:
  static constexpr int64_t kInputs = 257, kOutputs = 5, kMostRows = 400;

  void TearDown() override {
    emulated::set_algorithm_times(emulated::kAlgorithmTimes);
    emulated::fail_to_start(-1);
  }

  static void make_fastest(int algorithm) {
    emulated::AlgorithmTimes times = emulated::kAlgorithmTimes;
    times[static_cast<size_t>(algorithm)] = 1;
    emulated::set_algorithm_times(times);
  }

  static cuda::Operand of(const DeviceBuffer<float>& x, int64_t rows, int64_t cols) {
    return {x.data(), rows, cols, cols, DType::kF32};
  }
  void start(cuda::LinearProducts& products, int64_t rows) {
    products.linear_forward(of(y_, rows, kOutputs), of(x_, rows, kInputs),
                            of(weight_, kOutputs, kInputs), {}, {});
  }
  std::vector<float> product(cuda::LinearProducts& products, int64_t rows = 3) {
    start(products, rows);
    return y_.download(stream_);
  }
  std::vector<float> product_by(int algorithm) {
    cuda::LinearProducts products(stream_, 0);
    make_fastest(algorithm);
    products.time_algorithms();
    return product(products);
  }

  // The algorithm that computes a product whose choices are settled.
  int algorithm_of(cuda::LinearProducts& products, int64_t rows) {
    const Starts before = emulated::algorithm_starts();
    start(products, rows);
    const Starts after = emulated::algorithm_starts();
    int found = -1;
    for (int i = 0; i < emulated::kAlgorithms; ++i) {
      const auto at = static_cast<size_t>(i);
      if (after[at] == before[at]) continue;
      EXPECT_EQ(found, -1) << "and " << i;
      found = i;
    }
    return found;
  }

  TestStream stream_;
  cuda::LinearProducts products_{stream_, 0};
  const DeviceBuffer<float> x_{waves(kMostRows * kInputs, 0.7f), stream_};
  const DeviceBuffer<float> weight_{waves(kOutputs * kInputs, 1.3f), stream_};
  const DeviceBuffer<float> y_{waves(kMostRows * kOutputs, 0.1f), stream_};
};

TEST_F(ProductChoices, WithoutTimesTheFirstProposalIsUsed) {
  make_fastest(3);
  EXPECT_EQ(algorithm_of(products_, 3), 0);
  EXPECT_EQ(products_.choices().size(), 0);
}

TEST_F(ProductChoices, TheFastestIsUsedWhicheverItIs) {
  std::vector<std::vector<float>> results;
  for (int i = 0; i < emulated::kAlgorithms; ++i) {
    const Starts before = emulated::algorithm_starts();
    results.push_back(product_by(i));
    for (size_t j = 0; j < before.size(); ++j)
      EXPECT_GT(emulated::algorithm_starts()[j], before[j]) << j << " was not timed";
    for (size_t j = 0; j + 1 < results.size(); ++j)
      EXPECT_NE(results.back(), results[j]) << i << " adds as " << j << " does";
  }
  EXPECT_EQ(product(products_), results[0]);
}

TEST_F(ProductChoices, AShapeIsTimedOnce) {
  products_.time_algorithms();
  for (const int64_t rows : {3, 100, 128}) start(products_, rows);
  EXPECT_EQ(products_.choices().size(), 1);
  start(products_, 129);
  EXPECT_EQ(products_.choices().size(), 2);
}

TEST_F(ProductChoices, TakenAgainFromItsTextItGivesTheSameBits) {
  make_fastest(4);
  products_.time_algorithms();
  const std::vector<float> expected = product(products_);
  const std::string text = products_.choices().text();

  make_fastest(1);
  cuda::LinearProducts again(stream_, 0);
  again.take_choices(cuda::ProductChoices::parse(text));
  EXPECT_EQ(again.choices().text(), text);
  EXPECT_EQ(product(again), expected);
  EXPECT_EQ(algorithm_of(again, 3), 4);
}

TEST_F(ProductChoices, NoneIsTakenFromAnotherVersionOfTheLibrary) {
  products_.time_algorithms();
  start(products_, 3);
  const std::string text = products_.choices().text();
  EXPECT_EQ(cuda::ProductChoices::parse(text).size(), 1);
  Environment environment;
  environment.set("FACET_EMULATED_CUBLASLT", "130100");
  EXPECT_EQ(cuda::ProductChoices::parse(text).size(), 0);
}

TEST_F(ProductChoices, OtherRowsTakeTheChoiceOfTheNearest) {
  products_.time_algorithms();
  make_fastest(3);
  start(products_, 100);
  make_fastest(4);
  start(products_, 300);
  products_.take_choices(products_.choices());
  EXPECT_EQ(algorithm_of(products_, 128), 3);
  EXPECT_EQ(algorithm_of(products_, 200), 3);
  EXPECT_EQ(algorithm_of(products_, 257), 4);
  EXPECT_EQ(algorithm_of(products_, 400), 4);
}

TEST_F(ProductChoices, AnotherProductTakesTheFirstProposal) {
  products_.time_algorithms();
  start(products_, 3);
  products_.take_choices(products_.choices());
  const DeviceBuffer<float> wider(waves((kOutputs + 1) * kInputs, 1), stream_);
  const Starts before = emulated::algorithm_starts();
  products_.linear_forward(of(y_, 3, kOutputs + 1), of(x_, 3, kInputs),
                           of(wider, kOutputs + 1, kInputs), {}, {});
  EXPECT_EQ(emulated::algorithm_starts()[0], before[0] + 1);
}

TEST_F(ProductChoices, AnAlgorithmThatDoesNotStartIsGivenUpForTheNext) {
  emulated::fail_to_start(0);
  testing::internal::CaptureStderr();
  EXPECT_EQ(algorithm_of(products_, 3), 1);
  EXPECT_EQ(algorithm_of(products_, 3), 1);
  const std::string warnings = testing::internal::GetCapturedStderr();
  const size_t at = warnings.find("algorithm 1 of 6 of cuBLASLt does not start and is not used");
  EXPECT_NE(at, std::string::npos) << warnings;
  EXPECT_NE(warnings.find("execution failed"), std::string::npos) << warnings;
  EXPECT_EQ(warnings.find("does not start", at + 40), std::string::npos) << "twice: " << warnings;
}

TEST_F(ProductChoices, TheFastestThatStartsIsChosen) {
  emulated::set_algorithm_times({6, 5, 4, 3, 2, 1});
  emulated::fail_to_start(5);
  testing::internal::CaptureStderr();
  products_.time_algorithms();
  start(products_, 3);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("algorithm 6 of 6"), std::string::npos);
  products_.take_choices(products_.choices());
  EXPECT_EQ(algorithm_of(products_, 3), 4);
}

TEST_F(ProductChoices, ASumInPlaceIsNotSpoiledByItsTimes) {
  const auto add = [&](cuda::LinearProducts& products, const DeviceBuffer<float>& y) {
    products.linear_forward(of(y, 3, kOutputs), of(x_, 3, kInputs), of(weight_, kOutputs, kInputs),
                            {}, of(y, 3, kOutputs));
    return y.download(stream_);
  };
  const std::vector<float> before(3 * kOutputs, 1.5f);
  const DeviceBuffer<float> once(before, stream_), timed(before, stream_);
  make_fastest(0);
  const std::vector<float> expected = add(products_, once);
  products_.time_algorithms();
  EXPECT_EQ(add(products_, timed), expected);
}

TEST_F(ProductChoices, ALineThatCannotBeReadIsNamed) {
  products_.time_algorithms();
  start(products_, 3);
  const std::string good = products_.choices().text();
  const std::string cut = good.substr(0, good.size() - 2);
  for (const std::string& bad : {cut, cut + "g\n", good + "\n"})
    EXPECT_THROW(cuda::ProductChoices::parse(bad), Error) << bad;
}

}  // namespace
}  // namespace facet::kernel_test
