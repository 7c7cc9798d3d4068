#include "job/command_output.h"

#include <gtest/gtest.h>

#include <csignal>

#include "base/check.h"
#include "base/timer.h"

namespace facet {
namespace {

CommandEnd shell(const std::string& script, double seconds = 60) {
  return run_command({"sh", "-c", script}, {"PATH=/usr/bin:/bin", "WORD=from here"}, seconds);
}

TEST(CommandOutput, WhatItPrintsAndHowItEnds) {
  const CommandEnd end = shell("echo; echo one $WORD; echo two >&2; exit 3");
  EXPECT_EQ(end.text, "one from here\ntwo");
  EXPECT_EQ(end.code, 3);
  EXPECT_EQ(shell("kill -TERM $$").code, 128 + SIGTERM);
}

TEST(CommandOutput, ArgumentsAreNoShellsBusiness) {
  EXPECT_EQ(run_command({"echo", "$(id)", "; id"}, {}, 60).text, "$(id) ; id");
}

TEST(CommandOutput, AProgramThatIsNotThere) {
  EXPECT_THROW(run_command({"facet-no-such-program"}, {}, 60), Error);
}

TEST(CommandOutput, OneThatDoesNotEndIsKilledWithItsChildren) {
  const Timer timer;
  try {
    shell("trap '' TERM; echo begun; sleep 50 & sleep 50", 0.5);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "sh did not answer within 0.5 s");
  }
  EXPECT_LT(timer.seconds(), 40);
}

TEST(CommandOutput, AFloodIsCut) {
  const CommandEnd end = shell("head -c 1000000 /dev/zero | tr '\\0' x");
  EXPECT_EQ(end.text.size(), size_t{1} << 16);
  EXPECT_EQ(end.code, 0);
}

TEST(CommandOutput, ItHasAllSignalsAndNoInput) {
  sigset_t set, before;
  sigfillset(&set);
  pthread_sigmask(SIG_BLOCK, &set, &before);
  const CommandEnd end = shell("cat; kill -TERM $$; echo lives");
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  EXPECT_EQ(end.code, 128 + SIGTERM);
}

}  // namespace
}  // namespace facet
