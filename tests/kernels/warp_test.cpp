// Barriers, warp operations and atomics do what CUDA's manual says, in every order of threads.
#include <gtest/gtest.h>

#include <numeric>

#include "tests/kernels/device_buffer.h"
#include "tests/kernels/warp_kernels.h"

namespace facet::kernel_test {
namespace {

constexpr int kRandomOrders = 3;

template <typename T, typename Kernel>
std::vector<T> run(int64_t n, const Kernel& kernel) {
  const TestStream stream;
  const DeviceBuffer<T> y(n);
  kernel(y.data(), stream);
  return y.download(stream);
}

TEST(Warp, ShufflesStayInTheirMaskAndWidth) {
  for_thread_orders(kRandomOrders, [] {
    const auto y = run<int>(32, two_segments);
    for (int i = 0; i < 16; ++i) EXPECT_EQ(y[i], 3);
    const auto down = [](int lane) { return lane < 31 ? lane + 1 : 31; };
    for (int i = 16; i < 32; ++i) EXPECT_EQ(y[i], down(i % 8 < 2 ? i : i - 2)) << i;
  });
}

TEST(Warp, APartialWarpWorksUnderItsMask) {
  for_thread_orders(kRandomOrders, [] {
    const auto y = run<int>(48, partial_warp);
    for (int i = 0; i < 48; ++i) EXPECT_EQ(y[i], 16 * (i / 16 * 16) + 120) << i;
  });
}

TEST(Warp, VotesOfTheBlockCountAllThreads) {
  for_thread_orders(kRandomOrders, [] {
    const auto y = run<int>(32, block_votes);
    for (int i = 0; i < 32; ++i) EXPECT_EQ(y[i], (31 - i) * 1000 + 12 * 10 + 2) << i;
  });
}

TEST(Warp, VotesAndMatches) {
  for_thread_orders(kRandomOrders, [] {
    const auto y = run<unsigned>(32 * 6, warp_votes);
    for (unsigned lane = 0; lane < 32; ++lane) {
      const unsigned* mine = &y[lane * 6];
      EXPECT_EQ(mine[0], 0x49249249u);
      EXPECT_EQ(mine[1], 1u);
      EXPECT_EQ(mine[2], 0u);
      EXPECT_EQ(mine[3], 0x11111111u << lane % 4);
      EXPECT_EQ(mine[4], 11u);
      EXPECT_EQ(mine[5], 1u);
    }
  });
}

TEST(Warp, Reductions) {
  for_thread_orders(kRandomOrders, [] {
    const auto y = run<int>(32 * 6, warp_reductions);
    const std::vector<int> expected = {-16, -16, 15, 96, 31, 32};
    for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i], expected[i % 6]) << i;
  });
}

TEST(Warp, SyncwarpOrdersTheLanesOfItsMask) {
  for_thread_orders(kRandomOrders, [] {
    const auto y = run<float>(32, submask_sync);
    for (int i = 0; i < 32; ++i) EXPECT_EQ(y[i], static_cast<float>(i ^ 1));
  });
}

TEST(Block, ScanOfEverySize) {
  for (const int n : {1, 7, 97, 256})
    for_thread_orders(kRandomOrders, [n] {
      const TestStream stream;
      std::vector<int> x(static_cast<size_t>(n)), expected(x.size());
      for (int i = 0; i < n; ++i) x[static_cast<size_t>(i)] = i * i % 13 - 5;
      std::partial_sum(x.begin(), x.end(), expected.begin());
      const DeviceBuffer<int> from(x, stream), to(n);
      inclusive_scan(to.data(), from.data(), n, stream);
      EXPECT_EQ(to.download(stream), expected);
    });
}

TEST(Block, SumsHaveTheSameBitsInEveryOrder) {
  const int n = 1000;
  std::vector<float> x(n);
  for (int i = 0; i < n; ++i) x[static_cast<size_t>(i)] = 1.0f / static_cast<float>(i + 1);
  std::vector<float> first;
  for_thread_orders(kRandomOrders, [&] {
    const TestStream stream;
    const DeviceBuffer<float> from(x, stream), to(4);
    block_sums(to.data(), from.data(), n, stream);
    const auto y = to.download(stream);
    const double sum = std::accumulate(y.begin(), y.end(), 0.0);
    EXPECT_NEAR(sum, 2 * std::accumulate(x.begin(), x.end(), 0.0), 1e-5);
    if (first.empty()) first = y;
    EXPECT_EQ(y, first);
  });
}

TEST(Atomics, CountsAndExtremes) {
  const int n = 300, bins = 10;
  std::vector<int> x(n), expected(bins, 0);
  for (int i = 0; i < n; ++i)
    ++expected[static_cast<size_t>(x[static_cast<size_t>(i)] = i * i % bins)];
  for_thread_orders(kRandomOrders, [&] {
    const TestStream stream;
    const DeviceBuffer<int> from(x, stream), counts(std::vector<int>(bins, 0), stream),
        extremes(std::vector<int>{-1, 100, 0, 0}, stream);
    histogram(counts.data(), from.data(), n, bins, stream);
    atomic_extremes(extremes.data(), from.data(), n, stream);
    EXPECT_EQ(counts.download(stream), expected);
    EXPECT_EQ(extremes.download(stream), (std::vector<int>{9, 0, 7, 9}));
  });
}

}  // namespace
}  // namespace facet::kernel_test
