// Streams run what events and synchronisations promise, and no more than they must when they are
// late.
#include <gtest/gtest.h>

#include "base/check.h"
#include "tests/device/cuda/emulated_device.h"
#include "tests/kernels/device_buffer.h"
#include "tests/kernels/planted_bugs.h"
#include "tests/kernels/warp_kernels.h"

namespace facet::kernel_test {
namespace {

using emulated::Lateness;
using emulated::Site;

class Streams : public testing::Test {
 protected:
  void TearDown() override {
    device_test::reset_device();
    emulated::set_stream_policy({});
  }
  // Work that only records its number.
  void work(const TestStream& stream, int number) {
    emulated::enqueue(stream, "traced", Site::current(), [=, this] { trace_.push_back(number); });
  }
  std::vector<int> trace_;
};

class Event {
 public:
  Event() { cudaEventCreateWithFlags(&event_, cudaEventDisableTiming); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_;
};

TEST_F(Streams, LateWorkRunsOnlyWhenForced) {
  emulated::set_stream_policy({Lateness::kAsLateAsAllowed, 1});
  const TestStream a, b;
  work(a, 1);
  work(b, 2);
  work(a, 3);
  EXPECT_TRUE(trace_.empty());
  b.synchronize();
  EXPECT_EQ(trace_, (std::vector<int>{2}));
  cudaDeviceSynchronize();
  EXPECT_EQ(trace_, (std::vector<int>{2, 1, 3}));
}

TEST_F(Streams, AnEventPullsInWhatItPromises) {
  emulated::set_stream_policy({Lateness::kAsLateAsAllowed, 1});
  const TestStream a, b, c;
  const Event a_done, c_done;
  work(c, 1);
  cudaEventRecord(c_done, c);
  work(c, 2);
  cudaStreamWaitEvent(a, c_done);
  work(a, 3);
  cudaEventRecord(a_done, a);
  work(a, 4);
  cudaStreamWaitEvent(b, a_done);
  work(b, 5);
  b.synchronize();
  EXPECT_EQ(trace_, (std::vector<int>{1, 3, 5}));
}

TEST_F(Streams, AWaitForAnEarlierRecordIsNotHeldByALaterOne) {
  emulated::set_stream_policy({Lateness::kAsLateAsAllowed, 1});
  const TestStream a, b, c;
  const Event event;
  work(a, 1);
  cudaEventRecord(event, a);
  cudaStreamWaitEvent(c, event);
  work(b, 2);
  cudaEventRecord(event, b);
  work(c, 3);
  c.synchronize();
  EXPECT_EQ(trace_, (std::vector<int>{1, 3}));
  cudaEventSynchronize(event);
  EXPECT_EQ(trace_, (std::vector<int>{1, 3, 2}));
}

TEST_F(Streams, SeedsGiveDifferentOrdersOfUnrelatedWorkAndTheSameOrderAgain) {
  const auto order_of = [this](uint64_t seed) {
    emulated::set_stream_policy({Lateness::kRandom, seed});
    const TestStream a, b;
    trace_.clear();
    for (int i = 0; i < 8; ++i) {
      work(a, i);
      work(b, 10 + i);
    }
    cudaDeviceSynchronize();
    return trace_;
  };
  const std::vector<int> first = order_of(1);
  EXPECT_EQ(order_of(1), first);
  EXPECT_EQ(first.size(), 16u);
  EXPECT_NE(order_of(2), first);
  // Within a stream the order stays.
  int last = -1;
  for (const int number : first) {
    if (number >= 10) continue;
    EXPECT_EQ(number, ++last);
  }
}

TEST_F(Streams, OrderIsWhatIsPromisedNotWhatHappened) {
  const TestStream a, b;
  const Event event;
  bool before = true, after = false;
  emulated::OperationId first;
  emulated::enqueue(a, "first", Site::current(),
                    [&] { first = emulated::running_operation()->id; });
  emulated::enqueue(b, "second", Site::current(),
                    [&] { before = emulated::ordered_before_running(first); });
  cudaEventRecord(event, a);
  cudaStreamWaitEvent(b, event);
  emulated::enqueue(b, "third", Site::current(),
                    [&] { after = emulated::ordered_before_running(first); });
  EXPECT_FALSE(before);
  EXPECT_TRUE(after);
  EXPECT_FALSE(emulated::ordered_before_running(first));  // the host has not waited
  b.synchronize();
  EXPECT_TRUE(emulated::ordered_before_running(first));
}

TEST_F(Streams, ACopyToTheHostArrivesWithTheSynchronisation) {
  emulated::set_stream_policy({Lateness::kAsLateAsAllowed, 1});
  const TestStream stream;
  const DeviceBuffer<float> x(std::vector<float>{1, 2, 3}, stream);
  std::vector<float> y(3, 0.0f);
  cudaMemcpyAsync(y.data(), x.data(), x.bytes(), cudaMemcpyDeviceToHost, stream);
  EXPECT_EQ(y, (std::vector<float>{0, 0, 0}));
  stream.synchronize();
  EXPECT_EQ(y, (std::vector<float>{1, 2, 3}));
}

TEST_F(Streams, AsyncMemoryLivesFromItsMallocToItsFree) {
  const TestStream stream;
  const int64_t before = emulated::live_allocations();
  emulated::set_stream_policy({Lateness::kAsLateAsAllowed, 1});
  void* data = nullptr;
  cudaMallocAsync(&data, 64, stream);
  EXPECT_EQ(emulated::live_allocations(), before);
  cudaMemsetAsync(data, 0, 64, stream);
  stream.synchronize();
  EXPECT_EQ(emulated::live_allocations(), before + 1);
  cudaFreeAsync(data, stream);
  stream.synchronize();
  EXPECT_EQ(emulated::live_allocations(), before);
}

TEST_F(Streams, AfterAnErrorTheDeviceCanBeUsedAgain) {
  for (int i = 0; i < 3; ++i) {
    const TestStream stream, other;
    const DeviceBuffer<float> y(64), x(256);
    const DeviceBuffer<int> z(32);
    EXPECT_THROW(bugs::exit_before_barrier({y.data(), x.data(), stream, other}), Error);
    two_segments(z.data(), stream);
    EXPECT_EQ(z.download(stream)[0], 3);
  }
}

}  // namespace
}  // namespace facet::kernel_test
