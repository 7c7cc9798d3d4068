#include "job/slurm_job.h"

#include <gtest/gtest.h>

#include "base/check.h"
#include "tests/job/fake_squeue.h"

namespace facet {
namespace {

JobState state(int code, const std::string& text) { return parse_job_state({code, text}); }

TEST(SlurmJob, StatesOfJobsThatAreThere) {
  for (const char* text : {"RUNNING", "PENDING", "SUSPENDED", "CONFIGURING", "REQUEUED",
                           "COMPLETED\nRUNNING", "COMPLETING\nPENDING"})
    EXPECT_EQ(state(0, text), JobState::kThere) << text;
}

TEST(SlurmJob, StatesOfJobsThatAreGone) {
  for (const char* text : {"", "COMPLETED", "NODE_FAIL", "CANCELLED", "PREEMPTED", "TIMEOUT",
                           "FAILED", "FAILED\nCOMPLETED"})
    EXPECT_EQ(state(0, text), JobState::kGone) << text;
  EXPECT_EQ(state(1, "slurm_load_jobs error: Invalid job id specified"), JobState::kGone);
}

TEST(SlurmJob, AnythingElseSaysNothing) {
  EXPECT_EQ(state(0, "COMPLETING"), JobState::kUnknown);  // its processes may not have ended yet
  EXPECT_EQ(state(0, "SOMETHING_NEW"), JobState::kUnknown);
  EXPECT_EQ(state(1, "slurm_load_jobs error: Unable to contact slurm controller"),
            JobState::kUnknown);
  EXPECT_EQ(state(1, ""), JobState::kUnknown);
}

TEST(SlurmJob, WhatMayBeAskedFor) {
  for (const char* text : {"1", "4711", "70_3", "70+1"}) EXPECT_TRUE(is_job_id(text)) << text;
  for (const char* text : {"", "none", "-1", "1 2", "1,2", "_3", "70_", "70_3_4", "1;id", "7\n"})
    EXPECT_FALSE(is_job_id(text)) << text;
}

TEST(SlurmJob, OutsideAJobThereIsNone) {
  const FakeSqueue squeue;
  EXPECT_FALSE(SlurmJob::of_this_process().known());
}

// An array's last task has the array's own id as its SLURM_JOB_ID.
TEST(SlurmJob, ATaskOfAnArrayIsAskedForByItsTask) {
  FakeSqueue squeue;
  squeue.environment.set("SLURM_JOB_ID", "70");
  squeue.environment.set("SLURM_ARRAY_JOB_ID", "70");
  squeue.environment.set("SLURM_ARRAY_TASK_ID", "3");
  squeue.environment.set("SLURM_RESTART_COUNT", "2");
  const SlurmJob job = SlurmJob::of_this_process();
  EXPECT_EQ(job.id, "70_3");
  EXPECT_EQ(job.number, "70");
  EXPECT_EQ(job.restarts, 2);
  squeue.does("echo RUNNING");
  EXPECT_EQ(state_of_job(job.id), JobState::kThere);
  EXPECT_EQ(squeue.calls(), "-h -j 70_3 -o %T\n");
}

TEST(SlurmJob, SettingsOfTheUserHideNoJob) {
  FakeSqueue squeue;
  squeue.environment.set("SQUEUE_STATES", "PD");
  squeue.does("echo \"states=$SQUEUE_STATES all=$SQUEUE_ALL\"");
  EXPECT_EQ(ask_squeue("5", "%T"), "states= all=yes");
}

TEST(SlurmJob, WithoutSqueueNothingIsKnown) {
  const FakeSqueue squeue;
  EXPECT_EQ(state_of_job("5"), JobState::kUnknown);
  EXPECT_THROW(ask_squeue("5", "%T"), Error);
}

}  // namespace
}  // namespace facet
