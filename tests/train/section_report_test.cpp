#include "train/section_report.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

SectionTimes times(double data, double compute, double save = 0) {
  SectionTimes t;
  t.own[static_cast<size_t>(Section::kData)] = data;
  t.own[static_cast<size_t>(Section::kCompute)] = compute;
  t.own[static_cast<size_t>(Section::kSave)] = save;
  return t;
}

TEST(SectionReport, TheSlowestRankHasTheMostWorkOutsideCollectives) {
  SectionTimes waits = times(1, 10);
  waits.collectives[static_cast<size_t>(Section::kCompute)] = 100;
  const Straggler found = slowest_rank({times(1, 11), times(1, 21), waits, times(1, 12)});
  EXPECT_EQ(found.rank, 1U);
  EXPECT_EQ(found.section, Section::kCompute);
  EXPECT_DOUBLE_EQ(found.seconds, 21);
  EXPECT_DOUBLE_EQ(found.median, 11.5);
}

TEST(SectionReport, TheSectionIsTheOneInWhichItExceedsTheMedianByMost) {
  const Straggler found = slowest_rank({times(1, 10), times(1, 10), times(9, 11)});
  EXPECT_EQ(found.rank, 2U);
  EXPECT_EQ(found.section, Section::kData);
  EXPECT_DOUBLE_EQ(found.median, 1);
}

TEST(SectionReport, OneRankIsItsOwnMedian) {
  const Straggler found = slowest_rank({times(1, 10, 3)});
  EXPECT_EQ(found.rank, 0U);
  EXPECT_DOUBLE_EQ(found.seconds, found.median);
  EXPECT_NE(straggler_text(found, "n1", 200).find(" 1.00 x the median"), std::string::npos);
}

TEST(SectionReport, Lines) {
  EXPECT_EQ(straggler_text({3, Section::kData, 12.5, 5}, "n7", 200),
            "slowest of the last 200 steps: rank 3 (host n7) in data, 2.50 x the median (12.5 s "
            "against 5 s)");
  SectionTimes t = times(0.25, 1.5);
  t.own[static_cast<size_t>(Section::kStart)] = 0.5;
  t.own[static_cast<size_t>(Section::kLoad)] = 1;
  t.collectives[static_cast<size_t>(Section::kLoad)] = 0.25;
  t.collectives[static_cast<size_t>(Section::kCompute)] = 0.125;
  EXPECT_EQ(first_step_text(t),
            "the first step ended 3.62 s after the start: start 0.50, load 1.25, evaluate 0.00, "
            "data 0.25, compute 1.50, update 0.00, collectives 0.12");
  PhaseTimes phases;
  phases.nanoseconds = {250'000'000, 500'000'000, 1'000'000'000, 125'000'000, 2'000'000};
  t.own[static_cast<size_t>(Section::kSave)] = 0.5;
  t.collectives[static_cast<size_t>(Section::kSave)] = 0.25;
  EXPECT_EQ(breakdown_text(phases, t, 10),
            "time (ms) of a step, mean of 10: data 25.00, forward 50.00, backward 100.00, reduce "
            "12.50, step 0.20, save 75.00, log 0.00, of which in collectives 37.50");
}

}  // namespace
}  // namespace facet
