// Streams, memory and copies of src/device/cuda.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <numeric>

#include "base/check.h"
#include "device/cuda/cuda_memory.h"
#include "device/cuda/pinned_ring.h"
#include "device/cuda/workspace.h"
#include "tests/kernels/device_buffer.h"

namespace facet::kernel_test {
namespace {

using emulated::Lateness;
using emulated::StreamPolicy;

class DeviceMemory : public testing::Test {
 protected:
  ~DeviceMemory() override { emulated::set_stream_policy({}); }

  static std::vector<int32_t> counted_from(int32_t first, size_t n) {
    std::vector<int32_t> values(n);
    std::iota(values.begin(), values.end(), first);
    return values;
  }
  template <typename T>
  static std::vector<T> fetch(const T* from, size_t n, const Stream& stream) {
    std::vector<T> values(n);
    cudaMemcpyAsync(values.data(), from, n * sizeof(T), cudaMemcpyDeviceToHost, stream);
    stream.synchronize();
    return values;
  }
};

// Many more bytes than the ring has, in pieces of all sizes, none of which may be overwritten
// before the device has it.
TEST_F(DeviceMemory, TheCallerMayReuseWhatWasCopied) {
  for (const StreamPolicy policy :
       {StreamPolicy{Lateness::kAsLateAsAllowed}, StreamPolicy{Lateness::kRandom, 1},
        StreamPolicy{Lateness::kAtOnce}}) {
    emulated::set_stream_policy(policy);
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
}

TEST_F(DeviceMemory, MoreSmallCopiesThanTheRingHasPieces) {
  emulated::set_stream_policy({Lateness::kAsLateAsAllowed});
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

// What does not reach the end of the ring does not wait for the device: nothing of it has run.
TEST_F(DeviceMemory, TheHostDoesNotWaitWhileTheRingHasRoom) {
  emulated::set_stream_policy({Lateness::kAsLateAsAllowed});
  const Stream stream;
  PinnedRing ring(stream, 4096);
  DeviceBuffer<int32_t> device(768);
  const std::vector<int32_t> before(768, 7), after = counted_from(0, 768);
  cudaMemcpyAsync(device.data(), before.data(), device.bytes(), cudaMemcpyHostToDevice, stream);
  int operations = 0;
  for (int64_t i = 0; i < 3; ++i) {
    ring.copy(device.data() + 256 * i, after.data() + 256 * i, 1024);
    emulated::enqueue(stream, "counted", std::source_location::current(), [&] { ++operations; });
  }
  EXPECT_EQ(operations, 0);
  EXPECT_EQ(fetch(device.data(), 768, stream), after);
  EXPECT_EQ(operations, 3);
}

TEST_F(DeviceMemory, ARingOutlivesAnErrorOfItsStream) {
  emulated::set_stream_policy({Lateness::kAsLateAsAllowed});
  const Stream stream;
  PinnedRing ring(stream, 4096);
  DeviceBuffer<int32_t> device(4);
  const std::vector<int32_t> values(8);
  ring.copy(device.data(), values.data(), 32);
  ring.copy(device.data(), values.data(), 16);
  EXPECT_THROW(stream.synchronize(), Error);
}

TEST_F(DeviceMemory, RowsMayLieApartOnTheDevice) {
  const Stream stream;
  PinnedRing ring(stream, 4096);
  DeviceBuffer<int32_t> device(std::vector<int32_t>(12, -1), TestStream());
  const std::vector<int32_t> values = counted_from(0, 6);
  ring.copy({device.data(), 4 * sizeof(int32_t), values.data(), 2 * sizeof(int32_t), 3});
  EXPECT_EQ(fetch(device.data(), 12, stream),
            (std::vector<int32_t>{0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1}));
}

TEST_F(DeviceMemory, AWorkspaceGrowsInStreamOrderAndIsThenKept) {
  emulated::set_stream_policy({Lateness::kAsLateAsAllowed});
  const Stream stream;
  Workspace workspace(stream);
  const auto values = counted_from(5, 100);
  int32_t* small = workspace.take<int32_t>(100);
  cudaMemcpyAsync(small, values.data(), 400, cudaMemcpyHostToDevice, stream);
  std::vector<int32_t> early(100);
  cudaMemcpyAsync(early.data(), small, 400, cudaMemcpyDeviceToHost, stream);
  int32_t* large = workspace.take<int32_t>(101);  // the copies above have not run yet
  EXPECT_NE(large, small);
  const int64_t made = emulated::allocations_made();
  EXPECT_EQ(workspace.take<int32_t>(200), large);
  EXPECT_EQ(workspace.take<int32_t>(1), large);
  EXPECT_EQ(emulated::allocations_made(), made);
  stream.synchronize();
  EXPECT_EQ(early, values);
}

TEST_F(DeviceMemory, AWorkspacesContentIsUndefinedAtEveryUse) {
  const Stream stream;
  Workspace workspace(stream);
  const std::vector<int32_t> values = counted_from(0, 64);
  cudaMemcpyAsync(workspace.take<int32_t>(64), values.data(), 256, cudaMemcpyHostToDevice, stream);
  for (const int32_t word : fetch(workspace.take<int32_t>(64), 64, stream)) EXPECT_EQ(word, -1);
}

TEST_F(DeviceMemory, ForgettingAndZeroingKeepTheOrderOfTheStream) {
  emulated::set_stream_policy({Lateness::kAsLateAsAllowed});
  const Stream stream;
  CudaMemory memory(stream);
  EXPECT_EQ(memory.space(), Space::kDevice);
  auto* data = static_cast<int32_t*>(memory.allocate(256, "a test"));
  const std::vector<int32_t> values = counted_from(0, 64);
  std::vector<int32_t> before(64), forgotten(64), zeroed(64);
  const auto read = [&](std::vector<int32_t>& to) {
    cudaMemcpyAsync(to.data(), data, 256, cudaMemcpyDeviceToHost, stream);
  };
  cudaMemcpyAsync(data, values.data(), 256, cudaMemcpyHostToDevice, stream);
  read(before);
  memory.forget(data, 256);
  read(forgotten);
  memory.zero(data, 256);
  read(zeroed);
  stream.synchronize();
  EXPECT_EQ(before, values);
  EXPECT_EQ(forgotten, std::vector<int32_t>(64, -1));
  EXPECT_EQ(zeroed, std::vector<int32_t>(64, 0));
  memory.free(data, 256);
}

// Arenas are destroyed while the error of the kernel is on its way to the user.
TEST_F(DeviceMemory, MemoryIsLetGoInSilenceAfterAKernelFailed) {
  const Stream stream;
  CudaMemory memory(stream);
  void* data = memory.allocate(256, "a test");
  emulated::fail_next_free();
  EXPECT_NO_THROW(memory.free(data, 256));
  EXPECT_EQ(emulated::find_allocation(data)->state, emulated::Allocation::State::kLive);
  memory.free(data, 256);
  EXPECT_EQ(emulated::find_allocation(data)->state, emulated::Allocation::State::kFreed);
}

int64_t mappings_of_this_process() {
  std::ifstream maps("/proc/self/maps");
  return std::count(std::istreambuf_iterator<char>(maps), {}, '\n');
}

// Addresses are never used again, and Linux has 65530 mappings for a process.
TEST_F(DeviceMemory, WhatIsFreedLeavesNoMappingBehind) {
  const TestStream stream;
  const DeviceBuffer<int32_t> kept(1);
  const int64_t before = mappings_of_this_process();
  for (int i = 0; i < 100; ++i) {
    DeviceBuffer<int32_t> device(std::vector<int32_t>(5000), stream);
    device.download(stream);
  }
  EXPECT_LE(mappings_of_this_process(), before + 20);
}

TEST_F(DeviceMemory, OneStreamWaitsForAnothersEvent) {
  emulated::set_stream_policy({Lateness::kAsLateAsAllowed});
  const Stream producer, consumer;
  Event written;
  DeviceBuffer<int32_t> device(4);
  const std::vector<int32_t> values = counted_from(1, 4);
  cudaMemcpyAsync(device.data(), values.data(), 16, cudaMemcpyHostToDevice, producer);
  written.record(producer);
  consumer.wait(written);
  EXPECT_EQ(fetch(device.data(), 4, consumer), values);
}

}  // namespace
}  // namespace facet::kernel_test
