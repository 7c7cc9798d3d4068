// Copies of src/device/cuda by page-locked memory, and the order of two streams.
#include "tests/kernels/device_copies.h"

#include <gtest/gtest.h>

namespace facet::kernel_test {
namespace {

using device_test::run_streams_at_once;
using device_test::run_streams_at_random;
using device_test::run_streams_late;

class DeviceCopies : public testing::Test {
 protected:
  ~DeviceCopies() override { run_streams_at_once(); }
};

// Many more bytes than the ring has, in pieces of all sizes, none of which may be overwritten
// before the device has it.
void expect_the_caller_may_reuse_what_was_copied() {
  const Stream stream;
  PinnedRing ring(stream, 4096);
  DeviceBuffer<int32_t> device(20000);
  int64_t at = 0;
  std::vector<int32_t> values;
  for (size_t n = 1; at + static_cast<int64_t>(n) <= 20000; n = n * 3 % 1999) {
    values = counted_from(static_cast<int32_t>(at), n);
    ring.copy(device.data() + at, values.data(), static_cast<int64_t>(n * sizeof(int32_t)));
    values.assign(n, -1);
    at += static_cast<int64_t>(n);
  }
  EXPECT_GT(at, 10000);
  EXPECT_EQ(fetch(device.data(), static_cast<size_t>(at), stream),
            counted_from(0, static_cast<size_t>(at)));
}

TEST_F(DeviceCopies, TheCallerMayReuseWhatWasCopied) {
  run_streams_late();
  expect_the_caller_may_reuse_what_was_copied();
  run_streams_at_random(1);
  expect_the_caller_may_reuse_what_was_copied();
  run_streams_at_once();
  expect_the_caller_may_reuse_what_was_copied();
}

TEST_F(DeviceCopies, MoreSmallCopiesThanTheRingHasPieces) {
  run_streams_late();
  const Stream stream;
  PinnedRing ring(stream, int64_t{1} << 20);
  DeviceBuffer<int32_t> device(600);
  for (int32_t i = 0; i < 600; ++i) {
    int32_t value = i;
    ring.copy(device.data() + i, &value, sizeof value);
    value = -1;
  }
  EXPECT_EQ(fetch(device.data(), 600, stream), counted_from(0, 600));
}

// What the stream waits for is other ranks: the watchdog must hear of that.
TEST_F(DeviceCopies, AFullRingFollowsWhatTheStreamWaitsFor) {
  run_streams_late();
  const Stream stream;
  PinnedRing ring(stream, 4096);
  DeviceBuffer<int32_t> device(512);
  const std::vector<int32_t> values = counted_from(0, 512);
  int followed = 0;
  stream.before_synchronize([&] { return ++followed < 3; });
  for (int i = 0; i < 2; ++i) ring.copy(device.data(), values.data(), 2048);
  EXPECT_EQ(followed, 0);
  ring.copy(device.data(), values.data(), 2048);
  EXPECT_EQ(followed, 3);  // the piece that is needed has not been copied: all of it
}

TEST_F(DeviceCopies, RowsMayLieApartOnTheDevice) {
  const Stream stream;
  PinnedRing ring(stream, 4096);
  DeviceBuffer<int32_t> device(std::vector<int32_t>(12, -1), TestStream());
  const std::vector<int32_t> values = counted_from(0, 6);
  ring.copy({device.data(), 4 * sizeof(int32_t), values.data(), 2 * sizeof(int32_t), 3});
  EXPECT_EQ(fetch(device.data(), 12, stream),
            (std::vector<int32_t>{0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1}));
}

TEST_F(DeviceCopies, OneStreamWaitsForAnothersEvent) {
  run_streams_late();
  const Stream producer, consumer;
  Event written;
  DeviceBuffer<int32_t> device(4);
  const std::vector<int32_t> values = counted_from(1, 4);
  check_cuda(cudaMemcpyAsync(device.data(), values.data(), 16, cudaMemcpyHostToDevice, producer),
             "cannot fill an array");
  written.record(producer);
  consumer.wait(written);
  EXPECT_EQ(fetch(device.data(), 4, consumer), values);
}

}  // namespace
}  // namespace facet::kernel_test
