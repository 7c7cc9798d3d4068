// One run at a time per output directory, and no directory stays locked forever.
#include "job/run_lock.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>

#include "base/check.h"

namespace facet {
namespace {

class RunLockTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = ::testing::TempDir() + "facet_run_lock";
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string refusal() const {
    try {
      RunLock lock(directory_);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kConfig);
      return error.what();
    }
    return "";
  }
  std::string directory_;
};

TEST_F(RunLockTest, SecondRunIsRefusedAndNamesTheHolder) {
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  auto first = std::make_unique<RunLock>(directory_);
  const std::string text = refusal();
  EXPECT_NE(text.find(fmt::format("host {} pid {} job", host, getpid())), std::string::npos)
      << text;
  first.reset();
  EXPECT_EQ(RunLock(directory_).dead_holder(), "");
}

TEST_F(RunLockTest, LockOfAKilledRunIsTakenOver) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const RunLock lock(directory_);
    const char byte = 1;
    if (write(ready[1], &byte, 1) == 1) pause();
    _exit(1);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_NE(refusal(), "");
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  const RunLock lock(directory_);
  EXPECT_NE(lock.dead_holder().find(fmt::format("pid {}", child)), std::string::npos);
}

TEST_F(RunLockTest, HolderOnAnotherHostIsBelieved) {
  std::ofstream(directory_ + "/run.lock") << "host elsewhere pid 1 job 77\n";
  EXPECT_NE(refusal().find("host elsewhere pid 1 job 77"), std::string::npos);
  EXPECT_NE(refusal().find("delete"), std::string::npos);
}

}  // namespace
}  // namespace facet
