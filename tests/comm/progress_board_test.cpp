#include "comm/progress_board.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <vector>

namespace facet {
namespace {

TEST(ProgressBoard, EveryRankReadsWhereTheOthersStand) {
  Communicator world(MPI_COMM_WORLD);
  ProgressBoard board(world, "here");
  const int64_t me = world.rank();
  begin_section(me % 2 == 0 ? Section::kSave : Section::kData);
  note_step(100 + me);
  note_samples(std::vector<int64_t>{me, me + 1000});
  world.sum(int64_t{1});
  const int64_t begun = my_progress().begun;
  const std::vector<RankProgress> progress = board.read(0);
  world.sum(int64_t{1});  // no rank continues before all have read
  ASSERT_EQ(progress.size(), static_cast<size_t>(world.size()));
  for (const RankProgress& p : progress) {
    const auto rank = static_cast<int64_t>(&p - progress.data());
    EXPECT_EQ(p.rank, rank);
    EXPECT_EQ(p.host, "here");
    EXPECT_EQ(p.process, ProcessState::kRuns);
    EXPECT_FALSE(p.leaving);
    EXPECT_EQ(p.section, rank % 2 == 0 ? Section::kSave : Section::kData);
    EXPECT_EQ(p.step, 100 + rank);
    EXPECT_EQ(p.samples, (std::vector<int64_t>{rank, rank + 1000}));
    EXPECT_EQ(p.num_samples, 2);
    EXPECT_GE(p.begun.number, begun);
    EXPECT_LT(p.idle, 60);
  }
  EXPECT_EQ(progress[static_cast<size_t>(me)].pid, ::getpid());
}

TEST(ProgressBoard, NoRankIsIdleSinceBeforeTheWatchBegan) {
  Communicator world(MPI_COMM_WORLD);
  ProgressBoard board(world, "here");
  for (const RankProgress& p : board.read(steady_now() + 1'000'000'000)) EXPECT_EQ(p.idle, 0);
}

TEST(ProgressBoard, OneProcessSpeaksAndAllSeeTheEnd) {
  Communicator world(MPI_COMM_WORLD);
  ProgressBoard board(world, "here");
  const bool mine = board.claim_report();
  EXPECT_EQ(world.sum(int64_t{mine}), 1);
  EXPECT_EQ(board.job_end(), 0);
  world.sum(int64_t{1});
  if (mine) board.end_job(86);
  world.sum(int64_t{1});
  EXPECT_EQ(board.job_end(), 86);
  EXPECT_FALSE(board.aborts());
  world.sum(int64_t{1});
  if (mine) board.note_abort();
  world.sum(int64_t{1});
  EXPECT_TRUE(board.aborts());
}

// As if each of the odd ranks' names were a machine's.
TEST(ProgressBoard, AHostIsOneByItsName) {
  Communicator world(MPI_COMM_WORLD);
  const int me = world.rank();
  const ProgressBoard board(world, me % 2 == 0 ? "even" : "odd");
  std::vector<int64_t> expected;
  for (int rank = me % 2; rank < world.size(); rank += 2) expected.push_back(rank);
  EXPECT_EQ(board.ranks(), expected);
  world.sum(int64_t{1});
}

TEST(ProgressBoard, AtItsEndTheSlotGoesHome) {
  Communicator world(MPI_COMM_WORLD);
  {
    ProgressBoard board(world, "here");
    note_step(17);
  }
  EXPECT_EQ(my_progress().step, 17);
  note_step(18);
  EXPECT_EQ(my_progress().step, 18);
}

TEST(ProcessState, FollowsTheProcess) {
  const pid_t child = fork();
  if (child == 0) {
    for (;;) pause();
  }
  EXPECT_EQ(process_state(child), ProcessState::kRuns);
  kill(child, SIGSTOP);
  waitpid(child, nullptr, WUNTRACED);
  EXPECT_EQ(process_state(child), ProcessState::kStopped);
  kill(child, SIGKILL);
  siginfo_t info;
  waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
  EXPECT_EQ(process_state(child), ProcessState::kGone);  // not waited for yet
  waitpid(child, nullptr, 0);
  EXPECT_EQ(process_state(child), ProcessState::kGone);
}

}  // namespace
}  // namespace facet
