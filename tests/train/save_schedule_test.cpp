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
  Wish between_steps() { return schedule->between_steps(step, 0).wish; }

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

// An evaluation as long as most of the limit, of batches that are short.
TEST(SaveSchedule, TheEvaluationBeforeTheFirstStepIsNoStep) {
  Rig rig(2.4);
  rig.schedule->begin(0);
  rig.schedule->saved(0);
  sleep(1.3);
  EXPECT_EQ(rig.between_steps(), Wish::kNone);
  EXPECT_EQ(rig.after_step(), Wish::kNone);
}

TEST(SaveSchedule, NothingIsLostBeforeTheFirstStep) {
  Rig rig(1e-6);
  rig.schedule->begin(0);
  EXPECT_EQ(rig.between_steps(), Wish::kNone);
  EXPECT_EQ(rig.after_step(), Wish::kSaveForTimeLimit);
}

TEST(SaveSchedule, TimeIsUpWithinAnEvaluationToo) {
  Rig rig(1);
  rig.schedule->begin(0);
  rig.schedule->saved(0);
  EXPECT_EQ(rig.after_step(), Wish::kNone);
  EXPECT_EQ(rig.between_steps(), Wish::kNone);
  sleep(0.6);  // another such batch does not fit in
  EXPECT_EQ(rig.between_steps(), Wish::kSaveForTimeLimit);
}

TEST(SaveSchedule, ASaveIsMeasuredByItself) {
  Rig rig(2.4);
  rig.schedule->begin(0);
  EXPECT_EQ((rig.schedule->saved(0), rig.after_step()), Wish::kNone);
  sleep(1.3);
  rig.schedule->held_up();
  EXPECT_EQ(rig.after_step(), Wish::kNone);
}

// Nothing is saved between two batches of an evaluation, but an error of a rank is heard there.
TEST(SaveSchedule, WhatEndsARunGoesBeforeWhatSavesIt) {
  using Met = SaveSchedule::Met;
  Rig rig(0, 0.01);
  sleep(0.05);
  EXPECT_EQ(rig.between_steps(), Wish::kNone);
  EXPECT_EQ(rig.after_step(), Wish::kSave);
  EXPECT_EQ(rig.schedule->after_step(2, 0, Met::kError).wish, Wish::kEndForError);
  EXPECT_EQ(rig.schedule->between_steps(2, 0, Met::kError).wish, Wish::kEndForError);
  EXPECT_TRUE(SaveSchedule::stops(Wish::kEndForError));
}

TEST(SaveSchedule, OtherBitsComeAlong) {
  Rig rig(1e-6);
  EXPECT_EQ(rig.schedule->after_step(1, 0x85).bits, 0x85);
  EXPECT_EQ(rig.schedule->between_steps(1, 0x85).bits, 0x85);
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
