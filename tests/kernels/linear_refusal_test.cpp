// What the user reads where cuBLASLt has no algorithm: only the emulation refuses on request.
#include <gtest/gtest.h>

#include <string>

#include "base/check.h"
#include "kernels/cuda/linear.h"
#include "tests/kernels/device_buffer.h"

namespace facet::kernel_test {
namespace {

TEST(LinearRefusal, AProductWithoutAnAlgorithmIsAClearError) {
  const TestStream stream;
  cuda::LinearProducts products(stream, 0);
  const DeviceBuffer<float> x(64), weight(16 * 8), y(7 * 16);
  emulated::refuse_next_algorithms();
  try {
    products.linear_forward({y.data(), 7, 16, 16, DType::kF32},
                            {x.data() + 1, 7, 8, 8, DType::kF32},
                            {weight.data(), 16, 8, 8, DType::kF32}, {}, {});
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("B fp32 (8, 7) by columns 8 apart, aligned to 4 bytes"),
              std::string::npos)
        << message;
    EXPECT_NE(message.find("not supported"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace facet::kernel_test
