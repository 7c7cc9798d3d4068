// Where a host's time goes while other ranks are awaited, as the watchdog and the straggler report
// see it: in the collective, under its name, what others take; outside it what this rank takes,
// host or device. Run with 1, 2, 3 and 4 ranks.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <utility>

#include "base/progress.h"
#include "comm/communicator.h"
#include "comm/cuda/nccl_transport.h"
#include "comm/cuda/staged_transport.h"
#include "emulated/device/stream.h"
#include "tests/comm/cuda/device_tensor.h"

namespace facet {
namespace {

using device_test::DeviceArray;

constexpr double kLate = 0.5;  // seconds
// Less than a busy machine leaves of kLate to who waits.
constexpr double kNotAtAll = kLate / 10;

void pass(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

// Looks from another thread, as a watchdog does, in which collective the main thread waits longest.
class Watcher {
 public:
  Watcher() : thread_([this] { watch(); }) {}
  ~Watcher() { stop(); }
  BegunCollective stop() {
    over_ = true;
    if (thread_.joinable()) thread_.join();
    return longest_;
  }

 private:
  void watch() {
    int64_t last = 0, looks = 0, most = 0;
    for (; !over_; pass(0.001)) {
      const int64_t number = my_progress().awaited;
      looks = number == last ? looks + 1 : 1;
      last = number;
      if (number == 0 || looks <= most) continue;
      most = looks;
      longest_ = {static_cast<Collective>(my_progress().awaited_kind.load()), number};
    }
  }

  std::atomic<bool> over_{false};
  BegunCollective longest_;
  std::thread thread_;
};

enum class By : uint8_t { kStaged, kNccl };

class HostWait : public testing::TestWithParam<By> {
 protected:
  void SetUp() override {
    if (GetParam() == By::kStaged)
      world_.use(std::make_unique<StagedTransport>(MPI_COMM_WORLD, compute_));
    else
      world_.use(std::make_unique<NcclTransport>(MPI_COMM_WORLD, compute_));
    for (int r = 0; r < world_.size(); ++r) {
      parts_.counts.push_back(kCount);
      parts_.offsets.push_back(r * kCount);
    }
  }
  void TearDown() override { emulated::set_stream_policy({}); }

  int late_rank() const { return world_.size() - 1; }
  bool i_am_late() const { return world_.rank() == late_rank(); }
  // The late rank hears when the others are as far as they get without it: a busy machine may let
  // one of them wait for long.
  void meet_the_late_one() const {
    int nothing = 0;
    if (!i_am_late()) MPI_Send(&nothing, 1, MPI_INT, late_rank(), 0, MPI_COMM_WORLD);
    for (int r = 0; i_am_late() && r < late_rank(); ++r)
      MPI_Recv(&nothing, 1, MPI_INT, r, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  }
  void exchange() {
    Communicator::Pending pending = world_.start_exchange(received_, sent_, parts_);
    world_.wait(pending);
  }
  // What the late rank does first takes kLate seconds, on its host or its device; then all exchange
  // twice and wait for their streams.
  void expect_times_where_they_belong(const std::function<void()>& be_late) {
    using emulated::Lateness;
    for (const Lateness lateness : {Lateness::kAtOnce, Lateness::kAsLateAsAllowed}) {
      emulated::set_stream_policy({lateness, 1});
      meet_the_late_one();
      const InSection section(Section::kCompute);
      const SectionTimes before = section_times();
      const int64_t begun = my_progress().begun;
      Watcher watcher;
      if (i_am_late()) be_late();
      exchange();
      exchange();
      compute_.synchronize();
      const BegunCollective longest = watcher.stop();
      const SectionTimes times = section_times() - before;
      const double own = times.of(Section::kCompute),
                   others = times.collectives_of(Section::kCompute);
      if (i_am_late()) {
        EXPECT_GE(own, kLate);
        EXPECT_LT(others, own);
      } else {
        EXPECT_LT(own, kLate);
        EXPECT_GT(others, kNotAtAll);
        EXPECT_EQ(longest.number, begun + 1);
        EXPECT_EQ(longest.kind, Collective::kReduceScatter);
      }
    }
  }

  static constexpr int kCount = 100;
  Stream compute_;
  Communicator world_{MPI_COMM_WORLD};
  RankParts parts_;
  const DeviceArray source_{std::vector<float>(static_cast<size_t>(kCount * world_.size()), 1.0f),
                            DType::kF32, compute_};
  const DeviceArray sent_{kCount * world_.size(), DType::kF32},
      received_{kCount * world_.size(), DType::kF32};
};

TEST_P(HostWait, ALateHostIsAwaitedInTheCollective) {
  device_test::copy_on(compute_, sent_, source_);
  expect_times_where_they_belong([] { pass(kLate); });
}

// The host of the late rank is on time: what it waits for is its own device.
TEST_P(HostWait, ALateDeviceIsAwaitedInTheCollectiveByTheOthersOnly) {
  device_test::copy_on(compute_, sent_, source_);
  expect_times_where_they_belong([&] {
    emulated::enqueue(compute_, "launched", EmulatedSite::current(), [] { pass(kLate); });
  });
}

// Between the start and the end of a step nothing is waited for, so that backward overlaps with it,
// until the host would be too far ahead.
class HostWaitByNccl : public HostWait {};
TEST_P(HostWaitByNccl, TheHostRunsAheadUpToALimit) {
  device_test::copy_on(compute_, sent_, source_);
  const InSection section(Section::kCompute);
  const SectionTimes before = section_times();
  const auto waited = [&] { return (section_times() - before).collectives_of(Section::kCompute); };
  const auto exchange_all = [&] {
    for (size_t i = 0; i < NcclTransport::kAhead; ++i) exchange();
  };
  if (i_am_late()) {
    meet_the_late_one();
    pass(kLate);
    exchange_all();
    exchange();
  } else {
    exchange_all();
    EXPECT_EQ(waited(), 0);
    meet_the_late_one();
    exchange();
    EXPECT_GT(waited(), kNotAtAll);
  }
  compute_.synchronize();
}

INSTANTIATE_TEST_SUITE_P(By, HostWait, testing::Values(By::kStaged, By::kNccl),
                         [](const auto& info) {
                           return info.param == By::kStaged ? "Staged" : "Nccl";
                         });
INSTANTIATE_TEST_SUITE_P(By, HostWaitByNccl, testing::Values(By::kNccl));

}  // namespace
}  // namespace facet
