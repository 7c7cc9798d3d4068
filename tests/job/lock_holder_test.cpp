#include "job/lock_holder.h"

#include <gtest/gtest.h>

#include "tests/job/fake_squeue.h"

namespace facet {
namespace {

LockHolder holder_in(const std::string& line) {
  const std::optional<LockHolder> holder = LockHolder::parse(line);
  EXPECT_TRUE(holder) << line;
  return holder.value_or(LockHolder{});
}

SlurmJob job(const std::string& id, int64_t restarts = 0) { return {id, id, "here", restarts}; }

TEST(LockHolder, TheLineIsReadAsItWasWritten) {
  const LockHolder me = LockHolder::this_process(job("77", 2));
  const LockHolder read = holder_in(me.line());
  EXPECT_EQ(read.line(), me.line());
  EXPECT_EQ(read.name(), me.name());
  EXPECT_EQ(read.pid, getpid());
  EXPECT_EQ(read.restarts, 2);
  EXPECT_EQ(read.machine_of(me), LockHolder::Machine::kSame);
  EXPECT_NE(me.line(), LockHolder::this_process(job("77", 2)).line());
}

TEST(LockHolder, LocksOfOlderAndNewerVersions) {
  EXPECT_EQ(holder_in("host n1 pid 5 job none\n").name(), "host n1 pid 5 job none");
  EXPECT_EQ(holder_in("host n1 pid 5 job 7 colour blue\nmore").job, "7");
}

TEST(LockHolder, AnythingElseIsNoLock) {
  for (const char* text :
       {"", "\n", "my notes", "host n1", "pid 5", "host n1 pid five", "host n1 pid 0",
        "host n1 pid -5", "host n1 pid 5x", "host \033[31mn1 pid 5", "host n\xff pid 5",
        "host n1 pid 99999999999999999999"})
    EXPECT_FALSE(LockHolder::parse(text)) << text;
  EXPECT_FALSE(LockHolder::parse("host " + std::string(1000, 'x') + " pid 5"));
}

TEST(LockHolder, MachinesByNameAndBoot) {
  using Machine = LockHolder::Machine;
  const LockHolder me = holder_in("host n1 pid 5 boot b1");
  EXPECT_EQ(me.machine_of(holder_in("host n1 pid 6 boot b1")), Machine::kSame);
  EXPECT_EQ(me.machine_of(holder_in("host n1 pid 6")), Machine::kSame);
  EXPECT_EQ(me.machine_of(holder_in("host n2 pid 6 boot b1")), Machine::kPerhaps);
  EXPECT_EQ(me.machine_of(holder_in("host n2 pid 6")), Machine::kOther);
  EXPECT_EQ(me.machine_of(holder_in("host n1 pid 6 boot b2")), Machine::kOther);
}

TEST(LockHolder, AnEarlierLifeOfTheSameJobIsGone) {
  const FakeSqueue squeue;
  const auto state = [](const std::string& line, const SlurmJob& mine) {
    return state_of_holder(holder_in("host n1 pid 5 " + line), mine);
  };
  EXPECT_EQ(state("job 77 restarts 0", job("77", 1)), JobState::kGone);
  EXPECT_EQ(state("job 77", job("77")), JobState::kGone);
  // Another step of this life may run at the same time.
  EXPECT_EQ(state("job 77 restarts 1", job("77", 1)), JobState::kUnknown);
  EXPECT_EQ(state("job 77 restarts 2", job("77", 1)), JobState::kUnknown);
  EXPECT_EQ(state("job 70_3 restarts 0", {"70_3", "70", "", 1}), JobState::kGone);
  EXPECT_EQ(state("job 75", {"70_3", "75", "", 1}), JobState::kGone);  // as older versions wrote it
  EXPECT_EQ(squeue.calls(), "");
}

TEST(LockHolder, SqueueIsAskedAboutAnotherJob) {
  FakeSqueue squeue;
  squeue.does("case $3 in 70_*) echo PENDING;; *) echo NODE_FAIL;; esac");
  EXPECT_EQ(state_of_holder(holder_in("host n1 pid 5 job 70_4"), job("70_3")), JobState::kThere);
  EXPECT_EQ(state_of_holder(holder_in("host n1 pid 5 job 76"), job("77")), JobState::kGone);
  EXPECT_EQ(state_of_holder(holder_in("host n1 pid 5 job 76"), {}), JobState::kGone);
  EXPECT_EQ(squeue.calls(), "-h -j 70_4 -o %T\n-h -j 76 -o %T\n-h -j 76 -o %T\n");
}

TEST(LockHolder, AnotherClustersJobsHaveTheSameNumbers) {
  FakeSqueue squeue;
  squeue.does("echo COMPLETED");
  const LockHolder holder = holder_in("host n1 pid 5 job 77 restarts 0 cluster there");
  EXPECT_EQ(state_of_holder(holder, job("77", 1)), JobState::kUnknown);
  EXPECT_EQ(state_of_holder(holder, job("78")), JobState::kUnknown);
  EXPECT_EQ(state_of_holder(holder_in("host n1 pid 5 job none"), job("78")), JobState::kUnknown);
  EXPECT_EQ(squeue.calls(), "");
}

}  // namespace
}  // namespace facet
