// One run at a time per output directory, and no directory stays locked forever.
#include "job/run_lock.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>

#include "base/check.h"
#include "base/timer.h"
#include "tests/job/fake_squeue.h"

namespace facet {
namespace {

// Holders on another machine, as they stand in a lock.
constexpr const char* kElsewhere = "host elsewhere pid 1 job none boot other run r1\n";
constexpr const char* kFirstLife = "host elsewhere pid 1 job 77 restarts 0 boot other run r1\n";

class RunLockTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = ::testing::TempDir() + "facet_run_lock";
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  // A request of this process; what costs time in it is short, and silence alone never enough.
  LockRequest request() const {
    LockRequest request{.output_dir = directory_, .job = {}};
    request.times = {.beat = 0.02, .gone = 0.1, .silent = 50, .settle = 0.05, .poll = 0.01};
    request.stop_signal = [] { return nullptr; };
    return request;
  }
  // The same, as if it came from another machine.
  LockRequest from_elsewhere() const {
    LockRequest other = request();
    other.me = *LockHolder::parse("host elsewhere pid 1 job none boot other run r2");
    return other;
  }
  LockRequest of_job(const std::string& id, int64_t restarts) const {
    LockRequest mine = request();
    mine.job = {id, id, "", restarts};
    mine.me = LockHolder::this_process(mine.job);
    return mine;
  }
  static std::string refusal(const LockRequest& request, ExitCode code = ExitCode::kConfig) {
    try {
      const RunLock lock(request);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code);
      return error.what();
    }
    return "";
  }
  std::string path() const { return directory_ + "/run.lock"; }
  void write(const std::string& text) const { std::ofstream(path()) << text; }
  std::string read() const {
    std::ifstream file(path());
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::string directory_;
  FakeSqueue squeue_;
};

// Or for a minute: the test fails then.
template <typename Condition>
void wait_until(const Condition& condition) {
  for (const Timer timer; !condition() && timer.seconds() < 60;)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

TEST_F(RunLockTest, SecondRunIsRefusedAndNamesTheHolder) {
  auto first = std::make_unique<RunLock>(request());
  const std::string text = refusal(request());
  EXPECT_TRUE(contains(text, request().me.name())) << text;
  first.reset();
  EXPECT_FALSE(std::filesystem::exists(path()));
  EXPECT_EQ(RunLock(request()).dead_holder(), "");
}

TEST_F(RunLockTest, LockOfAKilledRunIsTakenOver) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const RunLock lock(request());
    const char byte = 1;
    if (::write(ready[1], &byte, 1) == 1) pause();
    _exit(1);
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_NE(refusal(request()), "");
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  const RunLock lock(request());
  EXPECT_TRUE(contains(lock.dead_holder(), fmt::format("pid {}", child)));
}

TEST_F(RunLockTest, AnEarlierLifeOfTheSameJobIsTakenOver) {
  write(kFirstLife);
  EXPECT_EQ(RunLock(of_job("77", 1)).dead_holder(), "host elsewhere pid 1 job 77");
  EXPECT_EQ(squeue_.calls(), "");
}

TEST_F(RunLockTest, AnotherStepOfTheSameLifeIsTakenOverWhenItIsSilent) {
  write(kFirstLife);
  LockRequest second = of_job("77", 0);
  second.times.silent = 0.5;
  const Timer timer;
  EXPECT_NE(RunLock(second).dead_holder(), "");
  EXPECT_GE(timer.seconds(), 0.4);
}

TEST_F(RunLockTest, AJobThatSqueueKnowsIsBelieved) {
  write(kFirstLife);
  squeue_.does("echo RUNNING");
  const std::string text = refusal(of_job("78", 0));
  EXPECT_TRUE(contains(text, "(host elsewhere pid 1 job 77)")) << text;
  EXPECT_TRUE(contains(text, "delete " + path())) << text;
  EXPECT_EQ(squeue_.calls(), "-h -j 77 -o %T\n");
  EXPECT_EQ(read(), kFirstLife);
}

TEST_F(RunLockTest, AJobThatIsNoMoreIsTakenOver) {
  for (const char* commands :
       {"echo NODE_FAIL", "echo slurm_load_jobs error: Invalid job id specified >&2; exit 1"}) {
    write(kFirstLife);
    squeue_.does(commands);
    EXPECT_NE(RunLock(of_job("78", 0)).dead_holder(), "") << commands;
  }
}

TEST_F(RunLockTest, WhereNothingIsKnownSilenceDecides) {
  write(kElsewhere);
  LockRequest mine = request();
  mine.times.silent = 0.5;
  const Timer timer;
  EXPECT_EQ(RunLock(mine).dead_holder(), "host elsewhere pid 1 job none");
  EXPECT_GE(timer.seconds(), 0.4);
}

// Its clock may be wrong: it has to be silent before our eyes.
TEST_F(RunLockTest, AnOldTimeAloneIsNoSilence) {
  write(kElsewhere);
  std::filesystem::last_write_time(
      path(), std::filesystem::file_time_type::clock::now() - std::chrono::hours(5));
  LockRequest mine = request();
  mine.times = {.beat = 0.02, .gone = 0.5, .silent = 60, .settle = 0.05, .poll = 0.01};
  const Timer timer;
  EXPECT_NE(RunLock(mine).dead_holder(), "");
  EXPECT_GE(timer.seconds(), 0.5);
  EXPECT_LT(timer.seconds(), 50);
}

TEST_F(RunLockTest, ASignOfLifeFromElsewhereIsBelieved) {
  const RunLock first(from_elsewhere());
  EXPECT_TRUE(contains(refusal(request()), "(host elsewhere pid 1 job none)"));
  EXPECT_TRUE(contains(refusal(request()), "sign of life"));
}

// Where the file lock counts for one machine only, and whatever Slurm says.
TEST_F(RunLockTest, ASignOfLifeCountsMoreThanSqueue) {
  write(kFirstLife);
  squeue_.does("echo COMPLETED");
  std::atomic<bool> enough{false};
  std::thread holder([&] {
    const LockFile file(path());
    while (!enough) {
      file.renew();
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  });
  for (LockRequest other : {of_job("78", 0), of_job("77", 1)}) {
    other.times.gone = 1e6;
    EXPECT_TRUE(contains(refusal(other), "sign of life"));
  }
  enough = true;
  holder.join();
}

TEST_F(RunLockTest, OneOfTwoTakesOver) {
  write(kElsewhere);
  std::atomic<int> holding{0}, refused{0};
  const auto run = [&](LockRequest request) {
    request.times.silent = 0.5;
    try {
      const RunLock lock(request);
      ++holding;
      wait_until([&] { return refused > 0; });
    } catch (const Error&) {
      ++refused;
    }
  };
  std::thread other(run, from_elsewhere());
  run(request());
  other.join();
  EXPECT_EQ(holding, 1);
  EXPECT_EQ(refused, 1);
}

TEST_F(RunLockTest, ARunWhoseLockIsTakenIsTold) {
  std::string by;
  std::atomic<bool> told{false};
  LockRequest mine = request();
  mine.on_loss = [&](const std::string& other) {
    by = other;
    told = true;
  };
  {
    const RunLock lock(mine);
    write(kElsewhere);
    wait_until([&] { return told.load(); });
  }
  EXPECT_EQ(by, "host elsewhere pid 1 job none");
  EXPECT_EQ(read(), kElsewhere);  // and leaves it alone
}

TEST_F(RunLockTest, ALockThatWasDeletedComesBack) {
  const LockRequest mine = request();
  const RunLock lock(mine);
  std::filesystem::remove(path());
  wait_until([&] { return read() == mine.me.line(); });
  EXPECT_NE(refusal(request()), "");
}

TEST_F(RunLockTest, ASignalEndsTheWaiting) {
  write(kElsewhere);
  LockRequest mine = request();
  mine.stop_signal = [] { return "SIGTERM"; };
  EXPECT_TRUE(contains(refusal(mine, ExitCode::kSaved), "SIGTERM"));
  EXPECT_EQ(read(), kElsewhere);
}

TEST_F(RunLockTest, AnEmptyFileIsNobodys) {
  write("");
  EXPECT_EQ(RunLock(request()).dead_holder(), "");
  write(std::string(100, '\0'));  // the disk had room for the line, and then the power failed
  EXPECT_EQ(RunLock(request()).dead_holder(), "");
}

TEST_F(RunLockTest, OnlyALockIsTaken) {
  const std::string mine = directory_ + "/mine";
  std::ofstream(mine) << "";
  std::filesystem::create_symlink(mine, path());
  EXPECT_TRUE(contains(refusal(request(), ExitCode::kIo), "symbolic link"));
  EXPECT_EQ(std::filesystem::file_size(mine), 0);
  std::filesystem::remove(path());
  ASSERT_EQ(mkfifo(path().c_str(), 0600), 0);
  EXPECT_TRUE(contains(refusal(request(), ExitCode::kIo), "no regular file"));
  std::filesystem::remove(path());
  write("notes of mine\n");
  EXPECT_TRUE(contains(refusal(request(), ExitCode::kIo), "no lock of this program"));
  EXPECT_EQ(read(), "notes of mine\n");
}

}  // namespace
}  // namespace facet
