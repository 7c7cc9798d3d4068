#include "comm/hang_verdict.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace facet {
namespace {

constexpr BegunCollective kNone;

BegunCollective sum(int64_t number) { return {Collective::kSum, number}; }

RankProgress computes(int64_t rank, double idle, int64_t begun) {
  RankProgress p;
  p.rank = rank;
  p.pid = 100 + rank;
  p.host = "n" + std::to_string(rank / 2);
  p.section = Section::kCompute;
  p.idle = idle;
  p.step = 7;
  p.begun = sum(begun);
  p.num_samples = 2;
  p.samples = {10 * rank, 10 * rank + 1};
  return p;
}

RankProgress waits(int64_t rank, double idle, int64_t number) {
  RankProgress p = computes(rank, idle, number);
  p.awaited = sum(number);
  return p;
}

HangLimits limits_of(Section section, double seconds) {
  HangLimits limits;
  limits.of(section) = seconds;
  return limits;
}

std::vector<int64_t> numbers(const std::vector<RankProgress>& progress) {
  std::vector<int64_t> ranks;
  for (const RankProgress& p : progress) ranks.push_back(p.rank);
  return ranks;
}

int64_t late(const std::vector<RankProgress>& progress, const HangLimits& limits) {
  const auto found = late_rank(progress, std::ssize(progress), limits);
  return found ? found->rank : -1;
}

const HangLimits kThirty = limits_of(Section::kCompute, 30);

TEST(HangVerdict, ARankIsLateAtItsSectionsLimit) {
  EXPECT_EQ(late({computes(0, 1, 4), computes(1, 29.9, 3)}, kThirty), -1);
  EXPECT_EQ(late({computes(0, 1, 4), computes(1, 30.1, 3)}, kThirty), 1);
  EXPECT_EQ(late({computes(0, 1e6, 4)}, limits_of(Section::kData, 30)), -1);
  EXPECT_EQ(late({computes(0, 1e6, 4)}, HangLimits{}), -1);
  RankProgress data = computes(1, 45, 3);
  data.section = Section::kData;
  HangLimits both = kThirty;
  both.of(Section::kData) = 60;
  EXPECT_EQ(late({data}, both), -1);
}

TEST(HangVerdict, ARankWaitingForALiveRankIsNotLate) {
  EXPECT_EQ(late({waits(0, 500, 9), computes(1, 5, 8), waits(2, 400, 9)}, kThirty), -1);
  EXPECT_EQ(late({waits(0, 500, 9), computes(1, 31, 8), waits(2, 400, 9)}, kThirty), 1);
}

TEST(HangVerdict, WhenAllWaitTheLastToComeCounts) {
  EXPECT_EQ(late({waits(0, 500, 9), waits(1, 0.1, 9)}, kThirty), -1);
  EXPECT_EQ(late({waits(0, 500, 9), waits(1, 29.9, 9)}, kThirty), -1);
  EXPECT_EQ(late({waits(0, 500, 9), waits(1, 30.1, 9)}, kThirty), 1);
}

TEST(HangVerdict, ARankWaitingForAnotherHostHasTheLimitOfCollectives) {
  HangLimits limits = kThirty;
  const std::vector<RankProgress> here = {waits(0, 500, 9), waits(1, 400, 9)};
  EXPECT_FALSE(late_rank(here, 4, limits));
  limits.collective = 450;
  EXPECT_FALSE(late_rank(here, 4, limits));
  limits.collective = 390;
  ASSERT_TRUE(late_rank(here, 4, limits));
  EXPECT_EQ(late_rank(here, 4, limits)->rank, 1);
  EXPECT_TRUE(late_rank({waits(0, 500, 9), computes(1, 31, 8)}, 4, limits));
  EXPECT_EQ(hang_report(here, {"n0", "n0", "n1", "n2", "n1"}, here[1], limits),
            "hang: no progress for 400.0 s in compute (limit 390 s); all 2 ranks on n0 wait for "
            "other hosts:\n"
            "  ranks 0, 1: waiting in collective 9 (sum), compute of step 7\n"
            "  not seen from here: 2, 4 (host n1), 3 (host n2)");
}

TEST(HangVerdict, ARankThatExitsOnPurposeIsNeitherLateNorDead) {
  RankProgress left = computes(1, 500, 8);
  left.leaving = true;
  left.process = ProcessState::kGone;
  EXPECT_EQ(late({waits(0, 2, 9), left}, kThirty), -1);
  EXPECT_FALSE(dead_rank({waits(0, 2, 9), left}));
  left.leaving = false;
  ASSERT_TRUE(dead_rank({waits(0, 2, 9), left}));
  EXPECT_EQ(dead_rank({waits(0, 2, 9), left})->rank, 1);
}

TEST(HangVerdict, StoppedRanksAreBehindBeforeAllOthers) {
  RankProgress stopped = waits(2, 40, 9), another = computes(3, 40, 9);
  stopped.process = another.process = ProcessState::kStopped;
  EXPECT_EQ(numbers(ranks_behind({waits(0, 40, 9), computes(1, 40, 5), stopped})),
            std::vector<int64_t>{2});
  EXPECT_EQ(numbers(ranks_behind({waits(0, 40, 9), stopped, another})),
            (std::vector<int64_t>{2, 3}));
}

TEST(HangVerdict, OutsideCollectivesThoseWithTheFewestAreBehind) {
  EXPECT_EQ(numbers(ranks_behind(
                {waits(0, 40, 5), computes(1, 40, 8), computes(2, 1, 7), computes(3, 40, 7)})),
            (std::vector<int64_t>{2, 3}));
}

TEST(HangVerdict, WhenAllWaitTheEarliestCollectiveIsBehind) {
  EXPECT_EQ(numbers(ranks_behind({waits(0, 40, 9), waits(1, 40, 8), waits(2, 40, 9)})),
            std::vector<int64_t>{1});
  EXPECT_EQ(numbers(ranks_behind({waits(0, 40, 9), waits(1, 40, 9)})),
            (std::vector<int64_t>{0, 1}));
}

TEST(HangVerdict, TheReportNamesEverythingOnce) {
  RankProgress stopped = computes(1, 31.25, 8);
  stopped.process = ProcessState::kStopped;
  const std::vector<RankProgress> progress = {waits(0, 31, 9), stopped, waits(2, 31, 9),
                                              waits(3, 31, 9)};
  EXPECT_EQ(hang_report(progress, std::vector<std::string>(4), stopped, kThirty),
            "hang: no progress for 31.2 s in compute (limit 30 s); 1 of 4 ranks behind:\n"
            "  rank 1 (host n0, pid 101, stopped): 31.2 s without progress in compute of step 7; "
            "has not reached collective 9 (sum); sample ids 10 11\n"
            "  ranks 0, 2, 3: waiting in collective 9 (sum), compute of step 7");
}

TEST(HangVerdict, AReportOfManyRanksStaysShort) {
  std::vector<RankProgress> progress;
  for (int64_t rank = 0; rank < 1000; ++rank) progress.push_back(computes(rank, 40, 3));
  for (int64_t rank = 1000; rank < 4000; ++rank) progress.push_back(waits(rank, 40, 4));
  const std::string report =
      hang_report(progress, std::vector<std::string>(4000), progress[0], kThirty);
  EXPECT_LT(report.size(), 2500U);
  EXPECT_NE(report.find("and ranks 8-999\n"), std::string::npos) << report;
  EXPECT_NE(report.find("ranks 1000-3999: waiting in collective 4 (sum)"), std::string::npos);
}

TEST(HangVerdict, ADeathNamesRankHostStepAndCollective) {
  RankProgress dead = computes(3, 0, 8);
  dead.process = ProcessState::kGone;
  dead.num_samples = 40;
  EXPECT_EQ(death_report(dead, {waits(0, 0, 9), dead}),
            "rank 3 (host n1, pid 103) died in compute of step 7; has not reached collective 9 "
            "(sum); sample ids 30 31 and 38 more");
  dead.step = 0;
  dead.num_samples = 0;
  dead.section = Section::kLoad;
  dead.begun = kNone;
  EXPECT_EQ(death_report(dead, {dead}),
            "rank 3 (host n1, pid 103) died in load, before the first step; no collective so far; "
            "no sample ids");
}

TEST(HangVerdict, RankLists) {
  EXPECT_EQ(rank_list({7, 0, 1, 2, 3, 9, 10}), "0-3, 7, 9, 10");
  EXPECT_EQ(rank_list({}), "");
}

RankProgress stopped(RankProgress p) {
  p.process = ProcessState::kStopped;
  return p;
}

// After SIGTERM: nobody ends a save that is only slow.
TEST(HangVerdict, AStoppedRankThatAllOthersWaitFor) {
  EXPECT_EQ(stopped_rank({waits(0, 6, 9), stopped(computes(1, 1, 8))}, 5)->rank, 1);
  EXPECT_EQ(stopped_rank({waits(0, 6, 9), stopped(waits(1, 1, 8))}, 5)->rank, 1);
  EXPECT_FALSE(stopped_rank({waits(0, 4, 9), stopped(computes(1, 9, 8))}, 5));
  EXPECT_FALSE(stopped_rank({computes(0, 60, 8), stopped(computes(1, 9, 8))}, 5));
  EXPECT_FALSE(stopped_rank({waits(0, 60, 9), computes(1, 60, 8)}, 5));
  EXPECT_FALSE(stopped_rank({waits(0, 60, 9), waits(1, 60, 9)}, 5));
}

TEST(HangVerdict, TheReportOnALostHostNamesItAndItsRanks) {
  const std::vector<std::string> hosts = {"n0", "n0", "n1", "n1"};
  const std::vector<RankProgress> here = {waits(0, 6, 9), waits(1, 6, 9)};
  EXPECT_EQ(lost_host_report(here, hosts, {1, 31.04, false}, {2, 3}, 30),
            "hang: host n1 (ranks 2, 3 of 4) has not been heard for 31.0 s (limit 30 s); seen from "
            "n0:\n  ranks 0, 1: waiting in collective 9 (sum), compute of step 7");
  EXPECT_NE(lost_host_report(here, hosts, {1, 0.54, true}, {2}, 30)
                .find("host n1 (rank 2 of 4) is gone: its connection was closed"),
            std::string::npos);
}

}  // namespace
}  // namespace facet
