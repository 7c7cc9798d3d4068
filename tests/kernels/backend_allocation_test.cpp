// A step that repeats another allocates nothing; the emulation counts.
#include "emulated/device/memory.h"
#include "tests/kernels/operator_chain.h"

namespace facet::kernel_test {
namespace {

// Uploads take turns between two pieces of memory, and the second chain may be the first in one.
TEST(BackendAllocations, TheThirdChainAllocatesNothing) {
  CudaBackend cuda(kSmallSizes);
  const Chain first = run_chain(cuda, DType::kBF16);
  run_chain(cuda, DType::kBF16);
  const int64_t before = emulated::allocations_made();
  const Chain third = run_chain(cuda, DType::kBF16);
  expect_equal(third, first);
  EXPECT_EQ(emulated::allocations_made() - before, third.allocations_of_mirrors);
}

}  // namespace
}  // namespace facet::kernel_test
