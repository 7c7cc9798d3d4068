#include "job/slurm_time.h"

#include <gtest/gtest.h>

#include <ctime>

#include "base/check.h"
#include "tests/job/fake_squeue.h"

namespace facet {
namespace {

TEST(SlurmTime, EveryFormOfATime) {
  EXPECT_EQ(parse_slurm_time("7"), 7);
  EXPECT_EQ(parse_slurm_time("0:00"), 0);
  EXPECT_EQ(parse_slurm_time("59:58"), 59 * 60 + 58);
  EXPECT_EQ(parse_slurm_time("1:02:03"), 3723);
  EXPECT_EQ(parse_slurm_time("12:00:00"), 43200);
  EXPECT_EQ(parse_slurm_time("2-03:04:05"), 2 * 86400 + 3 * 3600 + 4 * 60 + 5);
}

TEST(SlurmTime, NoLimit) {
  for (const char* text : {"UNLIMITED", "NOT_SET", "INVALID"})
    EXPECT_FALSE(parse_slurm_time(text)) << text;
}

TEST(SlurmTime, AnythingElseIsAnError) {
  for (const char* text : {"", "soon", "1:", ":1", "1:2:3:4", "1-", "-1:00", "1:-2", "1-2-3:00",
                           "1:00 2:00", "1::2", "1:00\n2:00"})
    EXPECT_THROW(parse_slurm_time(text), Error) << text;
}

// SLURM_JOB_END_TIME of a job that has this many seconds left.
std::string ends_in(int64_t seconds) { return std::to_string(std::time(nullptr) + seconds); }

TEST(SlurmTime, SqueueKnowsOfAChangedLimit) {
  FakeSqueue squeue;
  EXPECT_FALSE(slurm_seconds_left());  // no job
  squeue.environment.set("SLURM_JOB_ID", "77");
  squeue.environment.set("SLURM_JOB_END_TIME", ends_in(500));
  squeue.does("echo 2:00");
  EXPECT_EQ(slurm_seconds_left(), 120);
  EXPECT_EQ(squeue.calls(), "-h -j 77 -o %L\n");
}

TEST(SlurmTime, WithoutAnAnswerOfSqueueTheEndTimeCounts) {
  FakeSqueue squeue;
  squeue.environment.set("SLURM_JOB_ID", "77");
  squeue.environment.set("SLURM_JOB_END_TIME", ends_in(5000));
  for (const char* commands : {"exit 1", "echo RUNNING"}) {
    squeue.does(commands);
    EXPECT_NEAR(slurm_seconds_left().value(), 5000, 300);
  }
  squeue.environment.set("SLURM_JOB_END_TIME", ends_in(-5));
  EXPECT_EQ(slurm_seconds_left(), 0);
  for (const char* text : {"", "soon", "0", "-7", "1e9"}) {
    squeue.environment.set("SLURM_JOB_END_TIME", text);
    EXPECT_THROW(slurm_seconds_left(), Error) << text;
  }
}

}  // namespace
}  // namespace facet
