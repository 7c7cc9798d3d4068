// When a run saves by the clock, and when it stops before a time limit.
#include "train/save_schedule.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace facet {
namespace {

using Wish = SaveSchedule::Wish;

constexpr double kHour = 3600, kMinute = 60;

void sleep(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

struct Rig {
  explicit Rig(double max_seconds, double save_seconds = 0) {
    options.max_hours = max_seconds / kHour;
    options.save_minutes = save_seconds / kMinute;
    schedule.emplace(options, world);
  }
  Wish after_step() { return schedule->after_step(++step, 0).wish; }

  Communicator world{MPI_COMM_SELF};
  Options options;
  std::optional<SaveSchedule> schedule;
  int64_t step = 0;
};

TEST(SaveSchedule, TheFirstSaveHasAReserveForItsBytes) {
  constexpr int64_t kBytes = 10'000'000'000;  // 100 s on a slow disk
  Rig small(200), large(200);
  small.schedule->begin(0);
  large.schedule->begin(kBytes);
  EXPECT_EQ(small.after_step(), Wish::kNone);
  EXPECT_EQ(large.after_step(), Wish::kSaveForTimeLimit);
  // A measurement replaces the guess.
  large.schedule->saved(1);
  EXPECT_EQ(large.after_step(), Wish::kNone);
  large.schedule->saved(70);
  EXPECT_EQ(large.after_step(), Wish::kSaveForTimeLimit);
}

TEST(SaveSchedule, TheFirstStepIsMeasured) {
  Rig rig(1);
  rig.schedule->begin(0);
  rig.schedule->saved(0);
  sleep(0.6);  // another such step does not fit in
  EXPECT_EQ(rig.after_step(), Wish::kSaveForTimeLimit);
}

TEST(SaveSchedule, TheClockIsNotSetBackByTheEndOfASave) {
  Rig rig(0, 0.2);
  sleep(0.3);
  EXPECT_EQ(rig.after_step(), Wish::kSave);
  rig.schedule->count_from_here();
  EXPECT_EQ(rig.after_step(), Wish::kNone);
  sleep(0.3);  // it is being written
  rig.schedule->saved(0.3);
  EXPECT_EQ(rig.after_step(), Wish::kSave);
}

}  // namespace
}  // namespace facet
