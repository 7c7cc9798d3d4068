// How much time is left: by the option, and as Slurm says, asked again while the run goes on.
#include "job/time_limit.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/check.h"

namespace facet {
namespace {

// Answers as the test says, and counts the questions. Threads ask, which may outlive the test.
struct Slurm {
  std::atomic<double> left{1000};
  std::atomic<bool> fails{false}, unlimited{false};
  std::atomic<int> asked{0};
};

TimeLimit::Ask asking(const std::shared_ptr<Slurm>& slurm) {
  return [slurm]() -> std::optional<double> {
    ++slurm->asked;
    if (slurm->fails) fail(ExitCode::kMissingInput, "nobody answers");
    if (slurm->unlimited) return std::nullopt;
    return slurm->left.load();
  };
}

// Asks until an answer is `near` this, as the training loop would after its steps.
bool comes_to(TimeLimit& limit, double near) {
  const Timer patience;
  while (patience.seconds() < 20) {
    const std::optional<double> left = limit.seconds_left();
    if (left && *left <= near && *left > near - 30) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

TEST(TimeLimit, HoursCountFromTheStartAndNobodyIsAsked) {
  const auto slurm = std::make_shared<Slurm>();
  TimeLimit limit(0.5, asking(slurm), 0);
  const double left = limit.seconds_left().value();
  EXPECT_LE(left, 1800);
  EXPECT_GT(left, 1700);
  EXPECT_LT(limit.seconds_left().value(), left);
  EXPECT_EQ(slurm->asked, 0);
}

TEST(TimeLimit, AChangedLimitIsNoticed) {
  const auto slurm = std::make_shared<Slurm>();
  TimeLimit limit(0, asking(slurm), 0.01);
  EXPECT_TRUE(comes_to(limit, 1000));
  slurm->left = 200;
  EXPECT_TRUE(comes_to(limit, 200));
  slurm->left = 7200;
  EXPECT_TRUE(comes_to(limit, 7200));
}

TEST(TimeLimit, IsNotAskedAllTheTime) {
  const auto slurm = std::make_shared<Slurm>();
  TimeLimit limit(0, asking(slurm), 3600);
  for (int i = 0; i < 1000; ++i) limit.seconds_left();
  EXPECT_EQ(slurm->asked, 1);
}

TEST(TimeLimit, WithoutAnAnswerTheLastOneHolds) {
  const auto slurm = std::make_shared<Slurm>();
  TimeLimit limit(0, asking(slurm), 0.01);
  slurm->fails = true;
  const int before = slurm->asked;
  while (slurm->asked < before + 3) EXPECT_TRUE(comes_to(limit, 1000));
  // One that failed at first may be answered later.
  const auto late = std::make_shared<Slurm>();
  late->fails = true;
  TimeLimit unknown(0, asking(late), 0.01);
  EXPECT_FALSE(unknown.seconds_left());
  late->fails = false;
  EXPECT_TRUE(comes_to(unknown, 1000));
}

TEST(TimeLimit, ALimitThatIsTakenAwayIsGone) {
  const auto slurm = std::make_shared<Slurm>();
  TimeLimit limit(0, asking(slurm), 0.01);
  slurm->unlimited = true;
  const Timer patience;
  while (limit.seconds_left() && patience.seconds() < 20)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_FALSE(limit.seconds_left());
}

// squeue may take its 20 s: the steps go on meanwhile.
TEST(TimeLimit, NobodyWaitsForTheAnswer) {
  const auto released = std::make_shared<std::atomic<bool>>(false);
  const auto calls = std::make_shared<std::atomic<int>>(0);
  TimeLimit limit(
      0,
      [released, calls]() -> std::optional<double> {
        while (++*calls > 1 && !*released)
          std::this_thread::sleep_for(std::chrono::milliseconds(5));
        return 500;
      },
      0);
  const Timer timer;
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(limit.seconds_left());
  EXPECT_LT(timer.seconds(), 10);
  *released = true;
}

}  // namespace
}  // namespace facet
