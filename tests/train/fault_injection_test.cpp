#include "train/fault_injection.h"

#include <gtest/gtest.h>

#include "base/check.h"

namespace facet {
namespace {

TEST(FaultInjection, ReadsMomentRankAndStep) {
  const FaultInjection injection = FaultInjection::parse("kill@ckpt.rename:rank=12,step=345");
  EXPECT_EQ(injection.moment, "ckpt.rename");
  EXPECT_EQ(injection.rank, 12);
  EXPECT_EQ(injection.step, 345);
  EXPECT_EQ(FaultInjection::parse("").moment, "");
}

TEST(FaultInjection, RefusesEverythingElse) {
  for (const char* text :
       {"kill", "kill@step", "kill@step:rank=1", "kill@step:rank=,step=2",
        "kill@step:rank=1,step=", "kill@step:rank=1,step=2x", "kill@lunch:rank=1,step=2",
        "kill@step:rank=-1,step=2", "stop@step:rank=1,step=2", "kill@step,step=1:rank=2"})
    EXPECT_THROW(FaultInjection::parse(text), Error) << text;
}

}  // namespace
}  // namespace facet
