// Memory and copies of src/device/cuda, as only the emulation shows them: what ran when, what is
// undefined, what was allocated.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "base/check.h"
#include "device/cuda/copy_streams.h"
#include "device/cuda/cuda_memory.h"
#include "device/cuda/workspace.h"
#include "emulated/device/memory.h"
#include "emulated/device/stream.h"
#include "tests/kernels/device_copies.h"

namespace facet::kernel_test {
namespace {

class DeviceMemory : public testing::Test {
 protected:
  ~DeviceMemory() override { device_test::run_streams_at_once(); }
};

// What does not reach the end of the ring does not wait for the device: nothing of it has run.
TEST_F(DeviceMemory, TheHostDoesNotWaitWhileTheRingHasRoom) {
  device_test::run_streams_late();
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
  device_test::run_streams_late();
  const Stream stream;
  PinnedRing ring(stream, 4096);
  DeviceBuffer<int32_t> device(4);
  const std::vector<int32_t> values(8);
  ring.copy(device.data(), values.data(), 32);
  ring.copy(device.data(), values.data(), 16);
  EXPECT_THROW(stream.synchronize(), Error);
}

TEST_F(DeviceMemory, AWorkspaceGrowsInStreamOrderAndIsThenKept) {
  device_test::run_streams_late();
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
  device_test::run_streams_late();
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

// Arenas are destroyed while the kernel's error propagates.
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

// It says how much was asked for, and the host holds no more than it did.
TEST_F(DeviceMemory, PageLockedMemoryThatIsNotThereIsRefused) {
  setenv("FACET_EMULATED_PAGE_LOCKED", "4000000", 1);
  PinnedMemory memory;
  void* const most = memory.allocate(3 << 20, "a test");
  try {
    memory.free(memory.allocate(1 << 20, "the optimizer state"), 1 << 20);
    ADD_FAILURE() << "more pages are locked than may be";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    for (const char* part : {"cannot page-lock 1.0 MiB", "the optimizer state", "ulimit -l",
                             "--offload_optimizer cpu"})
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
  memory.free(most, 3 << 20);
  memory.free(memory.allocate(3 << 20, "a test"), 3 << 20);
  unsetenv("FACET_EMULATED_PAGE_LOCKED");
}

int64_t mappings_of_this_process() {
  std::ifstream maps("/proc/self/maps");
  return std::count(std::istreambuf_iterator<char>(maps), {}, '\n');
}

// Addresses are never used again, and Linux has 65530 mappings for a process.
TEST_F(DeviceMemory, FreedMemoryLeavesNoMapping) {
  const TestStream stream;
  const DeviceBuffer<int32_t> kept(1);
  const int64_t before = mappings_of_this_process();
  for (int i = 0; i < 100; ++i) {
    DeviceBuffer<int32_t> device(std::vector<int32_t>(5000), stream);
    device.download(stream);
  }
  EXPECT_LE(mappings_of_this_process(), before + 20);
}

int64_t resident_bytes() {
  std::ifstream pages("/proc/self/statm");
  int64_t all = 0, resident = 0;
  pages >> all >> resident;
  return resident * 4096;
}

// The race check notes ninety bytes for each of the device's.
TEST_F(DeviceMemory, FreedMemoryLeavesNoRecords) {
  const TestStream stream;
  const std::vector<int32_t> values(64 << 10);
  const auto take_and_free = [&] { DeviceBuffer<int32_t> device(values, stream); };
  take_and_free();
  const int64_t before = resident_bytes();
  constexpr int kTimes = 20;
  for (int i = 0; i < kTimes; ++i) take_and_free();
  const auto device_bytes = static_cast<int64_t>(kTimes * values.size() * sizeof(int32_t));
  EXPECT_LE(resident_bytes() - before, 10 * device_bytes);
}

}  // namespace
}  // namespace facet::kernel_test
