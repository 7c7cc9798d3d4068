// The threads that read ahead.
#include "data/prefetcher.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/failing_threads.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

// Those that have started must not be waited for without being told to end.
TEST(Prefetcher, AThreadThatCannotStartIsAnErrorAndNoHang) {
  ::alarm(30);  // ends a hang
  const auto prepare = [](const SampleRequest&, PreparedSample&) {};
  for (const int most : {0, 1, 3}) {
    const ThreadLimit limit(most);
    EXPECT_TRUE(mentions(error_of([&] { Prefetcher(prepare, 4, 8); }),
                         "71: can't start a thread for reading samples ahead: "));
  }
  Prefetcher works(prepare, 4, 8);
  works.restart([sent = false]() mutable -> std::optional<SampleRequest> {
    return std::exchange(sent, true) ? std::nullopt : std::optional(SampleRequest{});
  });
  EXPECT_EQ(works.next().request, SampleRequest{});
  ::alarm(0);
}

// A micro-batch of one sample, too, must find the next one ready.
TEST(Prefetcher, PreparesItsCapacityBesideTheSampleThatIsHeld) {
  for (const int64_t capacity : {1, 3}) {
    std::atomic<int64_t> prepared{0};
    Prefetcher ahead([&](const SampleRequest&, PreparedSample&) { ++prepared; }, 2, capacity);
    ahead.restart([sample = int64_t{0}]() mutable {
      return std::optional(SampleRequest{Split::kTraining, 0, sample++});
    });
    ahead.next();
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (prepared < capacity + 1 && std::chrono::steady_clock::now() < end)
      std::this_thread::yield();
    EXPECT_EQ(prepared, capacity + 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_EQ(prepared, capacity + 1) << "no more";
  }
}

}  // namespace
}  // namespace facet
