#include "base/progress.h"

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

Section section_now() { return static_cast<Section>(my_progress().section.load()); }

TEST(Progress, SectionsNestAndTheOuterOneComesBack) {
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

TEST(Progress, TimeGoesToTheInnermostSectionAndCollectivesApart) {
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

TEST(Progress, CollectivesAreNumberedAsTheyBegin) {
  const int64_t before = my_progress().begun;
  const BegunCollective early = begin_collective(Collective::kAllGather);
  EXPECT_EQ(my_progress().awaited, 0);
  {
    const InCollective sum(Collective::kSum);
    EXPECT_EQ(my_progress().awaited, before + 2);
    EXPECT_EQ(my_progress().awaited_kind, static_cast<int64_t>(Collective::kSum));
  }
  EXPECT_EQ(my_progress().awaited, 0);
  {
    const InCollective wait(early);
    EXPECT_EQ(my_progress().awaited, before + 1);
    EXPECT_EQ(my_progress().awaited_kind, static_cast<int64_t>(Collective::kAllGather));
    EXPECT_EQ(my_progress().begun, before + 2);
  }
}

TEST(Progress, EveryNoteRenewsTheProgress) {
  int64_t last = my_progress().progress;
  const auto renewed = [&last] {
    const int64_t now = my_progress().progress;
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

TEST(Progress, OnlyTheMainThreadsProgressCounts) {
  note_progress();
  const int64_t before = my_progress().progress;
  std::thread([] { note_progress(); }).join();
  EXPECT_EQ(my_progress().progress, before);
}

TEST(Progress, WhilePollingOnlyOtherThreadsGetOn) {
  const Polling polling;
  int64_t before = my_progress().progress;
  { const InCollective question(Collective::kOr); }
  note_progress();
  EXPECT_EQ(my_progress().progress, before);
  std::thread([] { note_progress(); }).join();
  EXPECT_GT(my_progress().progress, before);
}

TEST(Progress, WhoPollsWaitsForOthersWhenItsOwnPartIsDone) {
  const int64_t before = begin_collective(Collective::kOr).number;
  {
    Polling polling;
    {
      const InCollective question(Collective::kOr);
      EXPECT_EQ(my_progress().awaited, 0);
    }
    polling.done_here();
    { const InCollective question(Collective::kOr); }
    EXPECT_EQ(my_progress().awaited, before);
    EXPECT_EQ(my_progress().begun, before + 2);
  }
  EXPECT_EQ(my_progress().awaited, 0);
}

TEST(Progress, KeepsTheFirstSampleIdsAndTheirNumber) {
  std::vector<int64_t> ids(ProgressSlot::kSamples + 5);
  std::iota(ids.begin(), ids.end(), 100);
  note_samples(ids);
  EXPECT_EQ(my_progress().num_samples, static_cast<int64_t>(ids.size()));
  EXPECT_EQ(my_progress().samples.back(), 100 + static_cast<int64_t>(ProgressSlot::kSamples) - 1);
}

TEST(Progress, MovesWithWhatItHolds) {
  static ProgressSlot elsewhere;
  const InSection data(Section::kData);
  note_step(12);
  begin_collective(Collective::kSum);
  const int64_t begun = my_progress().begun;
  move_progress_to(&elsewhere);
  EXPECT_EQ(&my_progress(), &elsewhere);
  EXPECT_EQ(elsewhere.step, 12);
  EXPECT_EQ(elsewhere.begun, begun);
  EXPECT_EQ(section_now(), Section::kData);
}

}  // namespace
}  // namespace facet
