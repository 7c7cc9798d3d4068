// What goes to the device beside the computation, and what comes back behind it: uploads to two
// pieces of memory in turns, and copies that the host waits for together.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <vector>

#include "base/check.h"
#include "device/cuda/pinned_inbox.h"
#include "device/cuda/upload_stream.h"
#include "emulated/device/page_locked.h"
#include "emulated/device/stream.h"
#include "kernels/cuda/backend.h"
#include "nn/input_buffers.h"
#include "tests/kernels/device_copies.h"
#include "tests/kernels/mirrored.h"

namespace facet::kernel_test {
namespace {

class Uploads : public testing::Test {
 protected:
  ~Uploads() override { device_test::run_streams_at_once(); }
};

// What happened on the compute stream, seen from the host.
void note_on(const Stream& stream, int& happened) {
  emulated::enqueue(stream, "noted", std::source_location::current(), [&] { ++happened; });
}

TEST_F(Uploads, WaitForWhatReadsTheirMemoryAndForNothingElse) {
  device_test::run_streams_late();
  const Stream compute;
  UploadStream uploads(compute, 4096);
  UploadTurns turns;
  std::array<DeviceBuffer<int32_t>, 2> memory = {DeviceBuffer<int32_t>(64),
                                                 DeviceBuffer<int32_t>(64)};
  int computed = 0;
  for (int batch = 0; batch < 2; ++batch) {
    const auto piece = static_cast<size_t>(uploads.next(turns));
    uploads.copy(memory[piece].data(), counted_from(batch, 64).data(), 256);
    note_on(compute, computed);
  }
  uploads.stream().synchronize();
  EXPECT_EQ(computed, 0);  // both have arrived
  uploads.copy(memory[static_cast<size_t>(uploads.next(turns))].data(), counted_from(2, 64).data(),
               256);
  uploads.stream().synchronize();
  EXPECT_EQ(computed, 1);  // the first of them has been computed: its memory is taken again
  compute.synchronize();
  EXPECT_EQ(computed, 2);
}

TEST_F(Uploads, ThatHaveNoRoomFollowWhatTheComputeStreamWaitsFor) {
  device_test::run_streams_late();
  const Stream compute;
  UploadStream uploads(compute, 4096);
  DeviceBuffer<int32_t> memory(512);
  int followed = 0;
  compute.before_synchronize([&] { return ++followed < 3; });
  for (int i = 0; i < 3; ++i) uploads.copy(memory.data(), counted_from(0, 512).data(), 2048);
  EXPECT_EQ(followed, 3);
}

// Of micro-batches of which each brings numbers, and the next one comes while they are in use.
std::vector<std::vector<float>> results_of_micro_batches(int count) {
  constexpr int64_t kNumbers = 1000;
  CudaBackend cuda(kSmallSizes);
  InputBuffers inputs(cuda, 8192);
  std::vector<std::unique_ptr<DeviceBuffer<float>>> results;
  for (int batch = 0; batch < count; ++batch) {
    inputs.begin();
    std::vector<float> given(kNumbers, static_cast<float>(batch + 1));
    const Tensor x = inputs.copy({kNumbers}, DType::kF32, given.data());
    given.assign(kNumbers, -1);
    results.push_back(std::make_unique<DeviceBuffer<float>>(kNumbers));
    cuda.copy(Tensor(results.back()->data(), {kNumbers}, DType::kF32, Space::kDevice), x);
  }
  std::vector<std::vector<float>> fetched;
  for (const auto& result : results)
    fetched.push_back(fetch(result->data(), kNumbers, cuda.stream()));
  return fetched;
}

void expect_each_to_see_its_own() {
  const auto results = results_of_micro_batches(5);
  for (size_t batch = 0; batch < results.size(); ++batch)
    EXPECT_EQ(results[batch], std::vector<float>(1000, static_cast<float>(batch + 1))) << batch;
}

TEST_F(Uploads, EachMicroBatchSeesItsOwn) {
  expect_each_to_see_its_own();
  device_test::run_streams_late();
  expect_each_to_see_its_own();
  for (const uint64_t seed : {1, 2, 3, 4, 5, 6, 7, 8}) {
    device_test::run_streams_at_random(seed);
    expect_each_to_see_its_own();
  }
}

class Inbox : public Uploads {};

TEST_F(Inbox, DeliversWhatWasThereWhenItWasCopied) {
  device_test::run_streams_late();
  const Stream stream;
  PinnedInbox inbox(stream, 256);
  DeviceBuffer<int32_t> device(300);
  std::array<std::vector<int32_t>, 3> taken;
  const int64_t waits = emulated::host_calls().waits;
  const int64_t pageable = emulated::pageable_copies();
  std::array<std::vector<int32_t>, 3> given;
  for (size_t i = 0; i < taken.size(); ++i) {  // more than the inbox begins with
    given[i] = counted_from(static_cast<int32_t>(1000 * i), 300);
    taken[i].assign(300, -7);
    cudaMemcpyAsync(device.data(), given[i].data(), 1200, cudaMemcpyHostToDevice, stream);
    inbox.copy(taken[i].data(), device.data(), 1200);
  }
  EXPECT_EQ(emulated::host_calls().waits, waits);
  for (const auto& values : taken) EXPECT_EQ(values, std::vector<int32_t>(300, -7));
  inbox.deliver();
  EXPECT_EQ(taken, given);
  inbox.deliver();
  EXPECT_EQ(emulated::host_calls().waits, waits + 1);
  EXPECT_EQ(emulated::pageable_copies(), pageable);
}

// As after a step that failed: its memory may be gone.
TEST_F(Inbox, DeliversNothingThatWasDropped) {
  device_test::run_streams_late();
  const Stream stream;
  PinnedInbox inbox(stream, 4096);
  DeviceBuffer<int32_t> device(counted_from(5, 16), TestStream());
  std::vector<int32_t> dropped(16, -7), taken(16, -7);
  inbox.copy(dropped.data(), device.data(), 64);
  inbox.drop();
  inbox.copy(taken.data(), device.data(), 64);
  inbox.deliver();
  EXPECT_EQ(dropped, std::vector<int32_t>(16, -7));
  EXPECT_EQ(taken, counted_from(5, 16));
}

TEST_F(Inbox, DeliversNothingOfAStreamThatFailed) {
  device_test::run_streams_late();
  const Stream stream;
  PinnedInbox inbox(stream, 4096);
  DeviceBuffer<int32_t> device(counted_from(5, 16), TestStream());
  std::vector<int32_t> lost(32, -7), taken(16, -7);
  inbox.copy(lost.data(), device.data(), 128);  // more than there is
  EXPECT_THROW(inbox.deliver(), Error);
  inbox.copy(taken.data(), device.data(), 64);
  inbox.deliver();
  EXPECT_EQ(lost, std::vector<int32_t>(32, -7));
  EXPECT_EQ(taken, counted_from(5, 16));
}

}  // namespace
}  // namespace facet::kernel_test
