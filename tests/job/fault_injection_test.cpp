#include "job/fault_injection.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/check.h"
#include "base/timer.h"

namespace facet {
namespace {

TEST(FaultInjection, ReadsAListOfFaults) {
  const auto faults =
      FaultInjection::parse(
          "kill@ckpt.rename:rank=12,step=345;slow@ckpt.write:ms=20;stop@data:rank=0,step=3")
          .faults();
  ASSERT_EQ(faults.size(), 3U);
  EXPECT_EQ(faults[2].action, "stop");
  EXPECT_EQ(faults[2].moment, "data");
  EXPECT_EQ(faults[0].action, "kill");
  EXPECT_EQ(faults[0].moment, "ckpt.rename");
  EXPECT_EQ(faults[0].rank, 12);
  EXPECT_EQ(faults[0].step, 345);
  EXPECT_EQ(faults[1].action, "slow");
  EXPECT_EQ(faults[1].milliseconds, 20);
  EXPECT_TRUE(FaultInjection::parse("").faults().empty());
}

TEST(FaultInjection, RefusesEverythingElse) {
  for (const char* text :
       {"kill", "kill@step", "kill@step:step=1", "kill@step:rank=,step=2", "kill@step:rank=1,step=",
        "kill@step:rank=1,step=2x", "kill@lunch:rank=1,step=2", "kill@step:rank=-1,step=2",
        "stop@step:step=1", "fail@step", "halt@step:rank=1,step=2", "kill@step,step=1:rank=2",
        "kill@step:rank=1,step=2,step=3", "slow@step", "slow@step:rank=1", "slow@step:ms=1;x"})
    EXPECT_THROW(FaultInjection::parse(text), Error) << text;
}

TEST(FaultInjection, PoisonsTheGradientOfItsRankAndStep) {
  const FaultInjection once = FaultInjection::parse("nan@grad:rank=1,step=7;kill@step:rank=0");
  EXPECT_TRUE(once.poisons(1, 7));
  EXPECT_FALSE(once.poisons(0, 7));
  EXPECT_FALSE(once.poisons(1, 8));
  const FaultInjection always = FaultInjection::parse("nan@grad:rank=0");
  EXPECT_TRUE(always.poisons(0, 1));
  EXPECT_TRUE(always.poisons(0, 99));
  EXPECT_FALSE(FaultInjection::parse("").poisons(0, 1));
  EXPECT_TRUE(once.poisons_gradients());
  EXPECT_FALSE(FaultInjection::parse("kill@step:rank=0").poisons_gradients());
  for (const char* text :
       {"nan@grad", "nan@step:rank=1", "kill@grad:rank=1", "nan@grad:rank=1,ms=3"})
    EXPECT_THROW(FaultInjection::parse(text), Error) << text;
}

TEST(FaultInjection, SlowsItsMomentOnly) {
  const FaultInjection injection = FaultInjection::parse("slow@ckpt.write:ms=60,rank=1");
  const Timer timer;
  injection.at("ckpt.rename", 1, 1);
  injection.at("ckpt.write", 0, 1);
  EXPECT_LT(timer.seconds(), 0.05);
  injection.at("ckpt.write", 1, 1);
  EXPECT_GE(timer.seconds(), 0.06);
}

TEST(FaultInjection, StrikesWhereItIsAskedTo) {
  const FaultInjection injection = FaultInjection::parse("slow@data.read:ms=1,rank=1,step=35");
  EXPECT_TRUE(injection.strikes("data.read"));
  EXPECT_FALSE(injection.strikes("data"));
  EXPECT_FALSE(FaultInjection::parse("").strikes("data.read"));
}

TEST(FaultInjection, FailsOnItsRank) {
  const FaultInjection injection = FaultInjection::parse("fail@ckpt.write:rank=1,step=3");
  injection.at("ckpt.write", 0, 3);
  injection.at("ckpt.write", 1, 2);
  EXPECT_THROW(injection.at("ckpt.write", 1, 3), Error);
}

TEST(FaultInjection, TheEnvironmentAddsFaults) {
  setenv("FACET_INJECT", "kill@step:rank=0,step=9", 1);
  EXPECT_EQ(FaultInjection::of_run("slow@step:ms=1").faults().size(), 2U);
  EXPECT_EQ(FaultInjection::of_run("").faults().size(), 1U);
  unsetenv("FACET_INJECT");
  EXPECT_TRUE(FaultInjection::of_run("").faults().empty());
}

TEST(FaultInjection, WhatIsPlantedCanBeTold) {
  EXPECT_EQ(FaultInjection::of_run("").told(), "");
  EXPECT_EQ(FaultInjection::of_run("slow@step:ms=1").told(), "--inject slow@step:ms=1");
  setenv("FACET_INJECT", "", 1);
  EXPECT_EQ(FaultInjection::of_run("").told(), "");
  setenv("FACET_INJECT", "kill@step:rank=0", 1);
  EXPECT_EQ(FaultInjection::of_run("").told(), "FACET_INJECT=kill@step:rank=0");
  EXPECT_EQ(FaultInjection::of_run("slow@step:ms=1").told(),
            "--inject slow@step:ms=1, FACET_INJECT=kill@step:rank=0");
  setenv("FACET_INJECT", "kill@lunch:rank=0", 1);
  try {
    FaultInjection::of_run("");
    ADD_FAILURE() << "a fault that does not exist";
  } catch (const Error& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with("FACET_INJECT 'kill@lunch")) << error.what();
  }
  unsetenv("FACET_INJECT");
}

}  // namespace
}  // namespace facet
