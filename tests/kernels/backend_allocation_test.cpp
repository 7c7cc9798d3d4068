// A step that repeats another allocates nothing; the emulation counts.
#include "emulated/device/memory.h"
#include "tests/kernels/operator_chain.h"

namespace facet::kernel_test {
namespace {

TEST(BackendAllocations, TheSecondChainAllocatesNothing) {
  CudaBackend cuda(kSmallSizes);
  const Chain first = run_chain(cuda, DType::kBF16);
  const int64_t before = emulated::allocations_made();
  const Chain second = run_chain(cuda, DType::kBF16);
  expect_equal(second, first);
  EXPECT_EQ(emulated::allocations_made() - before, second.allocations_of_mirrors);
}

}  // namespace
}  // namespace facet::kernel_test
