// The emulation counts the allocations of staging through host memory: run with 1, 2, 3 and 4
// ranks.
#include "comm/cuda/staged_transport.h"

#include <gtest/gtest.h>

#include "tests/comm/cuda/device_tensor.h"

namespace facet {
namespace {

using device_test::DeviceArray, device_test::parts_with_gaps;

TEST(StagedTransport, SteadyWorkAllocatesNothing) {
  const Stream compute;
  Communicator world(MPI_COMM_WORLD);
  world.use(std::make_unique<StagedTransport>(MPI_COMM_WORLD, compute));
  const RankParts parts = parts_with_gaps(world.size(), 1000);
  const DeviceArray sent(world.size() * 1003, DType::kF32),
      received(world.size() * 1003, DType::kF32);
  const auto step = [&] {
    Communicator::Pending a = world.start_exchange(received, sent, parts);
    world.wait(a);
    world.all_gather(received.range(0, world.size() * 500), sent.range(0, 500));
    compute.synchronize();
  };
  const int64_t at_first = emulated::page_locked_allocations();
  step();
  const int64_t before = emulated::page_locked_allocations();
  EXPECT_GT(before, at_first);
  for (int i = 0; i < 5; ++i) step();
  EXPECT_EQ(emulated::page_locked_allocations(), before);
}

}  // namespace
}  // namespace facet
