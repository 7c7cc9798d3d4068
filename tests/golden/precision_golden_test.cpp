// What 16 bits cost: over 20 steps the program's losses and gradient norms stay as near to those of
// fp64 as PyTorch's with the same casts.
#include <gtest/gtest.h>

#include "tests/golden/curve_rig.h"

namespace facet::golden {
namespace {

const char* const kCase = "curve_precision";

std::vector<double> doubles(const GoldenFile& file, const std::string& tensor) {
  const std::vector<float> values = file.floats(kCase, tensor);
  return {values.begin(), values.end()};
}

// max over steps |ours - fp64| <= 2 max over steps |PyTorch - fp64|; and not by computing in fp32,
// which is a thousand times nearer.
void compare(const GoldenFile& file, const std::string& quantity, const std::string& precision,
             const std::vector<double>& ours) {
  const std::vector<double> exact = doubles(file, quantity + "_fp64");
  const std::vector<double> pytorch = doubles(file, quantity + "_" + precision);
  ASSERT_EQ(ours.size(), exact.size());
  const double error = largest_error(ours, exact);
  const double of_pytorch = largest_error(pytorch, exact);
  EXPECT_LE(error, 2 * of_pytorch) << precision << ": " << quantity;
  EXPECT_GE(error, of_pytorch / 10) << precision << ": " << quantity;
  fmt::print("{} in {}: largest error {:.2e}, PyTorch's {:.2e}\n", quantity, precision, error,
             of_pytorch);
}

void expect_as_near_as_pytorch(const std::string& precision, DType dtype) {
  const GoldenFile file("precision.safetensors");
  const Curve curve = walk_curve(file, kCase, {.dtype = dtype});
  compare(file, "losses", precision, curve.losses);
  compare(file, "norms", precision, curve.norms);
}

TEST(GoldenPrecision, Fp32FollowsFp64) {
  const GoldenFile file("precision.safetensors");
  const Curve curve = walk_curve(file, kCase, {});
  EXPECT_LE(largest_error(curve.losses, doubles(file, "losses_fp64")), 3e-6);
  EXPECT_LE(largest_error(curve.norms, doubles(file, "norms_fp64")), 1e-5);
}

TEST(GoldenPrecision, Bf16IsAsNearToFp64AsPyTorch) {
  expect_as_near_as_pytorch("bf16", DType::kBF16);
}

TEST(GoldenPrecision, Fp16IsAsNearToFp64AsPyTorch) {
  expect_as_near_as_pytorch("fp16", DType::kF16);
}

}  // namespace
}  // namespace facet::golden
