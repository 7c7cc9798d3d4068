// Rates as nccl-tests defines them, the lines for scripts, and which hosts meet.
#include "train/bandwidth.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>

#include "train/host_pairs.h"

namespace facet {
namespace {

TEST(Bandwidth, RatesAreThoseOfNcclTests) {
  const AllReduceRate eight{8, 4'000'000'000, 2};
  EXPECT_DOUBLE_EQ(eight.algbw(), 2);
  EXPECT_DOUBLE_EQ(eight.busbw(), 2 * 2 * 7.0 / 8);
  const AllReduceRate two{2, 4'000'000'000, 2};
  EXPECT_DOUBLE_EQ(two.busbw(), two.algbw());
}

TEST(Bandwidth, ALineForEachRate) {
  const AllReduceRate rate{4, 1'000'000'000, 0.5};
  const std::string text = bandwidth_text(
      {"nccl", {rate}, {{"n1", {}, rate, "n2"}, {"n2", {2, 500'000'000, 0.25}, rate, "n1"}}});
  for (const char* line :
       {"\nBANDWIDTH by=nccl of=all ranks=4 bytes=1000000000 seconds=0.5 algbw=2 busbw=3\n",
        "\nBANDWIDTH by=nccl of=pair host=n1 other=n2 ranks=4 ",
        "\nBANDWIDTH by=nccl of=host host=n2 ranks=2 bytes=500000000 seconds=0.25 algbw=2 "
        "busbw=2\n"})
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  EXPECT_EQ(text.find("of=host host=n1"), std::string::npos) << "it has one rank";
}

TEST(HostPairs, EveryHostMeetsEveryOtherOneOnce) {
  EXPECT_EQ(rounds_of_pairs(1), 0);
  for (int hosts = 2; hosts <= 9; ++hosts) {
    std::set<std::pair<int, int>> met;
    for (int round = 0; round < rounds_of_pairs(hosts); ++round) {
      int alone = 0;
      for (int host = 0; host < hosts; ++host) {
        const int partner = partner_of(host, round, hosts);
        if (partner < 0) {
          ++alone;
          continue;
        }
        ASSERT_LT(partner, hosts);
        EXPECT_NE(partner, host);
        EXPECT_EQ(partner_of(partner, round, hosts), host);
        EXPECT_TRUE(met.emplace(host, partner).second) << host << " and " << partner << " again";
      }
      EXPECT_EQ(alone, hosts % 2);
    }
    EXPECT_EQ(met.size(), static_cast<size_t>(hosts) * static_cast<size_t>(hosts - 1));
  }
}

}  // namespace
}  // namespace facet
