#include "base/position.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

namespace facet {
namespace {

void pass(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

Section section_now() { return static_cast<Section>(my_position().section.load()); }

TEST(Position, SectionsNestAndTheOuterOneComesBack) {
  begin_section(Section::kLog);
  {
    const InSection data(Section::kData);
    EXPECT_EQ(section_now(), Section::kData);
    {
      const InSection save(Section::kSave);
      EXPECT_EQ(section_now(), Section::kSave);
    }
    EXPECT_EQ(section_now(), Section::kData);
  }
  EXPECT_EQ(section_now(), Section::kLog);
}

TEST(Position, TimeGoesToTheInnermostSectionAndCollectivesApart) {
  begin_section(Section::kLog);
  const int64_t start = steady_now();
  const SectionTimes before = section_times();
  {
    const InSection data(Section::kData);
    pass(20);
    const InCollective here(Collective::kSum);
    pass(40);
  }
  {
    const InSection compute(Section::kCompute);
    pass(10);
  }
  const SectionTimes taken = section_times() - before;
  const double whole = 1e-9 * static_cast<double>(steady_now() - start);
  EXPECT_GE(taken.of(Section::kData), 0.020);
  EXPECT_GE(taken.of(Section::kCompute), 0.010);
  EXPECT_GE(taken.collectives_of(Section::kData), 0.040);
  EXPECT_LT(taken.of(Section::kUpdate), 1e-6);
  EXPECT_LE(taken.total(), whole);
  EXPECT_GE(taken.total(), 0.070);
}

TEST(Position, CollectivesAreNumberedAsTheyBegin) {
  const int64_t before = my_position().begun;
  const BegunCollective early = begin_collective(Collective::kAllGather);
  EXPECT_EQ(my_position().awaited, 0);
  {
    const InCollective sum(Collective::kSum);
    EXPECT_EQ(my_position().awaited, before + 2);
    EXPECT_EQ(my_position().awaited_kind, static_cast<int64_t>(Collective::kSum));
  }
  EXPECT_EQ(my_position().awaited, 0);
  {
    const InCollective wait(early);
    EXPECT_EQ(my_position().awaited, before + 1);
    EXPECT_EQ(my_position().awaited_kind, static_cast<int64_t>(Collective::kAllGather));
    EXPECT_EQ(my_position().begun, before + 2);
  }
}

TEST(Position, EverySignOfLifeRenewsTheProgress) {
  int64_t last = my_position().progress;
  const auto renewed = [&last] {
    const int64_t now = my_position().progress;
    const bool later = now > last;
    last = now;
    return later;
  };
  note_progress();
  EXPECT_TRUE(renewed());
  { const InSection data(Section::kData); }
  EXPECT_TRUE(renewed());
  { const InCollective here(Collective::kMax); }
  EXPECT_TRUE(renewed());
  note_samples(std::vector<int64_t>{3});
  EXPECT_TRUE(renewed());
}

TEST(Position, OnlyTheMainThreadsProgressCounts) {
  note_progress();
  const int64_t before = my_position().progress;
  std::thread([] { note_progress(); }).join();
  EXPECT_EQ(my_position().progress, before);
}

TEST(Position, WhilePollingOnlyOtherThreadsGetOn) {
  const Polling polling;
  int64_t before = my_position().progress;
  { const InCollective question(Collective::kOr); }
  note_progress();
  EXPECT_EQ(my_position().progress, before);
  std::thread([] { note_progress(); }).join();
  EXPECT_GT(my_position().progress, before);
}

TEST(Position, WhoPollsWaitsForOthersWhenItsOwnPartIsDone) {
  const int64_t before = begin_collective(Collective::kOr).number;
  {
    Polling polling;
    {
      const InCollective question(Collective::kOr);
      EXPECT_EQ(my_position().awaited, 0);
    }
    polling.done_here();
    { const InCollective question(Collective::kOr); }
    EXPECT_EQ(my_position().awaited, before);
    EXPECT_EQ(my_position().begun, before + 2);
  }
  EXPECT_EQ(my_position().awaited, 0);
}

TEST(Position, KeepsTheFirstSampleIdsAndTheirNumber) {
  std::vector<int64_t> ids(PositionSlot::kSamples + 5);
  std::iota(ids.begin(), ids.end(), 100);
  note_samples(ids);
  EXPECT_EQ(my_position().num_samples, static_cast<int64_t>(ids.size()));
  EXPECT_EQ(my_position().samples.back(), 100 + static_cast<int64_t>(PositionSlot::kSamples) - 1);
}

TEST(Position, MovesWithWhatItHolds) {
  static PositionSlot elsewhere;
  const InSection data(Section::kData);
  note_step(12);
  begin_collective(Collective::kSum);
  const int64_t begun = my_position().begun;
  move_position_to(&elsewhere);
  EXPECT_EQ(&my_position(), &elsewhere);
  EXPECT_EQ(elsewhere.step, 12);
  EXPECT_EQ(elsewhere.begun, begun);
  EXPECT_EQ(section_now(), Section::kData);
}

}  // namespace
}  // namespace facet
