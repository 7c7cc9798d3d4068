// Run with 1, 2, 3 and 4 ranks (scripts/run_tests.sh).
#include "comm/communicator.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>
#include <vector>

#include "base/rng.h"
#include "comm/mpi_session.h"

namespace facet {
namespace {

std::vector<float> values_of(int rank, size_t count) {
  RandomStream stream(1, "test", static_cast<uint64_t>(rank));
  std::vector<float> values(count);
  for (float& value : values) value = (stream.uniform() - 0.5f) * 1000;
  return values;
}

// Parts with gaps between them, as a bucket that isn't full has; two exchanges at once, of fp32 and
// of 16-bit types.
TEST(Communicator, AnExchangeBringsEveryRanksPart) {
  Communicator world(MPI_COMM_WORLD);
  const int ranks = world.size(), mine = world.rank();
  for (const int64_t count : {int64_t{1}, int64_t{97}, int64_t{70001}}) {
    const int64_t stride = count + 3;
    const auto length = static_cast<size_t>(ranks * stride);
    Communicator::Parts parts;
    for (int r = 0; r < ranks; ++r) {
      parts.counts.push_back(static_cast<int>(count));
      parts.offsets.push_back(static_cast<int>(r * stride));
    }
    const std::vector<float> sent = values_of(mine, length);
    std::vector<float> received(length, -1.0f);
    const std::vector<uint16_t> sent_halves(length, static_cast<uint16_t>(0x3c00 + mine));
    std::vector<uint16_t> received_halves(length, 0);
    const auto tensor = [&](const void* data, DType dtype) {
      return Tensor(const_cast<void*>(data), {static_cast<int64_t>(length)}, dtype);
    };
    const int64_t before = world.elements_sent();
    Communicator::Pending a = world.start_exchange(tensor(received.data(), DType::kF32),
                                                   tensor(sent.data(), DType::kF32), parts);
    Communicator::Pending b = world.start_exchange(tensor(received_halves.data(), DType::kF16),
                                                   tensor(sent_halves.data(), DType::kF16), parts);
    world.progress();
    world.wait(b);
    world.wait(a);
    EXPECT_EQ(world.elements_sent() - before, 2 * count * (ranks - 1));
    for (int r = 0; r < ranks; ++r) {
      const std::vector<float> theirs = values_of(r, length);
      for (int64_t i = 0; i < stride; ++i) {
        const auto at = static_cast<size_t>(r * stride + i);
        const auto from = static_cast<size_t>(mine * stride + i);
        ASSERT_EQ(received[at], i < count ? theirs[from] : -1.0f) << r << " " << i;
        ASSERT_EQ(received_halves[at], i < count ? 0x3c00 + r : 0) << r << " " << i;
      }
    }
  }
}

TEST(Communicator, AllGatherBringsTheSlices) {
  Communicator world(MPI_COMM_WORLD);
  for (const int64_t length : {int64_t{1}, int64_t{97}, int64_t{150001}}) {
    const auto count = static_cast<size_t>(length * world.size());
    const std::vector<float> expected = values_of(0, count);
    const int64_t begin = world.rank() * length;
    for (const bool in_place : {false, true}) {
      std::vector<float> whole(count, std::nanf(""));
      std::vector<float> apart(expected.begin() + begin, expected.begin() + begin + length);
      std::copy(apart.begin(), apart.end(), whole.begin() + begin);
      const Tensor slice(in_place ? whole.data() + begin : apart.data(), {length}, DType::kF32);
      const int64_t sent = world.elements_sent();
      world.all_gather(Tensor(whole.data(), {length * world.size()}, DType::kF32), slice);
      EXPECT_EQ(world.elements_sent() - sent, length * (world.size() - 1));
      EXPECT_EQ(whole, expected);
    }
  }
}

// Rank r contributes 4097 + r elements, rank 1 none.
TEST(Communicator, GathersUnderWayBringTheSame) {
  Communicator world(MPI_COMM_WORLD);
  Communicator::Parts parts;
  for (int r = 0; r < world.size(); ++r) {
    parts.offsets.push_back(static_cast<int>(parts.elements()));
    parts.counts.push_back(r == 1 ? 0 : 4097 + r);
  }
  const auto count = static_cast<size_t>(parts.elements());
  std::vector<float> expected(count);
  for (size_t i = 0; i < count; ++i) expected[i] = static_cast<float>(i);
  const auto rank = static_cast<size_t>(world.rank());
  std::vector<float> mine(expected.begin() + parts.offsets[rank],
                          expected.begin() + parts.offsets[rank] + parts.counts[rank]);
  std::vector<float> first(count, std::nanf("")), second(count, std::nanf(""));
  const Tensor part(mine.data(), {parts.counts[rank]}, DType::kF32);
  const auto tensor = [&](std::vector<float>& x) {
    return Tensor(x.data(), {static_cast<int64_t>(count)}, DType::kF32);
  };
  const int64_t sent = world.elements_sent();
  Communicator::Pending a = world.start_all_gather(tensor(first), part, parts);
  Communicator::Pending b = world.start_all_gather(tensor(second), part, parts);
  EXPECT_EQ(world.sum(int64_t{1}), world.size());  // others run concurrently
  world.wait(b);
  world.wait(a);
  EXPECT_EQ(first, expected);
  EXPECT_EQ(second, expected);
  EXPECT_EQ(world.elements_sent() - sent, 2 * part.numel() * (world.size() - 1));
}

// Every pattern of 16 bits, NaNs too, arrives as it was.
TEST(Communicator, Gathers16BitWordsAsTheyAre) {
  Communicator world(MPI_COMM_WORLD);
  const int64_t length = 1009;
  const auto count = static_cast<size_t>(length * world.size());
  std::vector<uint16_t> expected(count);
  for (size_t i = 0; i < count; ++i) expected[i] = static_cast<uint16_t>(i * 40503u + 1);
  const auto begin = static_cast<size_t>(world.rank() * length);
  Communicator::Parts parts;
  for (int r = 0; r < world.size(); ++r) {
    parts.counts.push_back(static_cast<int>(length));
    parts.offsets.push_back(static_cast<int>(length) * r);
  }
  for (const DType type : {DType::kBF16, DType::kF16}) {
    std::vector<uint16_t> in_place(count, 0), apart(count, 0), later(count, 0);
    std::vector<uint16_t> mine(expected.begin() + static_cast<int64_t>(begin),
                               expected.begin() + static_cast<int64_t>(begin) + length);
    std::copy(mine.begin(), mine.end(), in_place.begin() + static_cast<int64_t>(begin));
    const auto tensor = [&](std::vector<uint16_t>& x, size_t first = 0, int64_t elements = 0) {
      return Tensor(x.data() + first, {elements == 0 ? static_cast<int64_t>(count) : elements},
                    type);
    };
    const int64_t sent = world.elements_sent();
    world.all_gather(tensor(in_place), tensor(in_place, begin, length));
    world.all_gather(tensor(apart), tensor(mine, 0, length));
    Communicator::Pending pending =
        world.start_all_gather(tensor(later), tensor(mine, 0, length), parts);
    world.wait(pending);
    EXPECT_EQ(in_place, expected);
    EXPECT_EQ(apart, expected);
    EXPECT_EQ(later, expected);
    EXPECT_EQ(world.elements_sent() - sent, 3 * length * (world.size() - 1));
    std::vector<uint16_t> spread(world.rank() == 0 ? mine : std::vector<uint16_t>(mine.size()));
    world.broadcast(tensor(spread, 0, length), 0);
    EXPECT_EQ(spread, std::vector<uint16_t>(expected.begin(), expected.begin() + length));
  }
}

TEST(Communicator, SmallValues) {
  Communicator world(MPI_COMM_WORLD);
  const int n = world.size();
  EXPECT_EQ(world.sum(static_cast<double>(world.rank() + 1)), n * (n + 1) / 2.0);
  EXPECT_EQ(world.sum(int64_t{world.rank() + 1}), n * (n + 1) / 2);
  EXPECT_EQ(world.max(int64_t{world.rank()}), n - 1);
  // In rank order: 1 is lost in 1e16 unless it comes before.
  std::vector<double> terms = {world.rank() == 0 ? 1e16 : 1.0, 5.0};
  world.all_reduce_sum(terms);
  EXPECT_EQ(terms, (std::vector<double>{1e16, 5.0 * n}));
  const std::vector<std::string> names = world.all_gather("rank " + std::to_string(world.rank()));
  ASSERT_EQ(names.size(), static_cast<size_t>(n));
  EXPECT_EQ(names.back(), "rank " + std::to_string(n - 1));
  std::vector<float> x(5, static_cast<float>(world.rank()));
  world.broadcast(Tensor(x.data(), {5}, DType::kF32), n - 1);
  EXPECT_EQ(x, std::vector<float>(5, static_cast<float>(n - 1)));
}

// How often this thread has given its core away to wait for something.
int64_t times_asleep() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nvcsw;
}

// Who waits for somebody who types takes no core, and is no hang.
TEST(Communicator, WaitsForTheRootAsleep) {
  constexpr std::chrono::milliseconds kLate{400};
  Communicator world(MPI_COMM_WORLD);
  world.sum(int64_t{0});
  const auto begin = std::chrono::steady_clock::now();
  const int64_t begun = steady_now();
  const int64_t asleep = times_asleep();
  if (world.rank() == 0) std::this_thread::sleep_for(kLate);
  world.await_root(0);
  if (world.rank() == 0) return;
  EXPECT_GE(times_asleep() - asleep, 4);  // of 40 on an idle machine
  EXPECT_GE(std::chrono::steady_clock::now() - begin, kLate / 2);
  EXPECT_GT(my_progress().progress - begun, std::chrono::nanoseconds(kLate / 2).count());
}

TEST(Collectively, AnErrorOnOneRankEndsAll) {
  Communicator world(MPI_COMM_WORLD);
  const int guilty = world.size() - 1;
  try {
    collectively(world, [&] {
      if (world.rank() == guilty) fail(ExitCode::kMissingInput, "no such file");
    });
    FAIL() << "nothing was thrown";
  } catch (const CollectiveError& error) {
    EXPECT_EQ(error.code(), ExitCode::kMissingInput);
    const std::string text = error.what();
    EXPECT_NE(text.find("no such file"), std::string::npos) << text;
    if (world.size() > 1) {
      EXPECT_EQ(text.find("rank " + std::to_string(guilty)), 0u) << text;
    }
  }
  collectively(world, [] {});  // and the ranks are still in step
}

TEST(Collectively, TheSameErrorEverywhereNamesNoRank) {
  Communicator world(MPI_COMM_WORLD);
  try {
    collectively(world, [] { fail(ExitCode::kUsage, "bad option"); });
    FAIL() << "nothing was thrown";
  } catch (const CollectiveError& error) {
    EXPECT_STREQ(error.what(), "bad option");
  }
}

}  // namespace
}  // namespace facet
