// What the user reads where the program was built without cuDNN.
#include <gtest/gtest.h>

#include <string>

#include "base/check.h"
#include "kernels/cuda/backend.h"

namespace facet::kernel_test {
namespace {

TEST(CudnnRefusal, AProgramWithoutItSaysSo) {
  CudaBackend backend({.ring_bytes = 1 << 16, .product_workspace_bytes = 0});
  try {
    backend.take_cudnn();
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    EXPECT_NE(std::string(error.what()).find("built without cuDNN"), std::string::npos);
  }
}

}  // namespace
}  // namespace facet::kernel_test
