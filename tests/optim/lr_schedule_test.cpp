#include "optim/lr_schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "base/check.h"

namespace facet {
namespace {

TEST(LrSchedule, WarmUpStartsAtZeroAndEndsAtOne) {
  for (const std::string& name : schedule_names()) {
    if (name == "constant") continue;
    LrSchedule schedule(schedule_from_name(name), 10, 100, 1e-3);
    EXPECT_EQ(schedule.factor(0), 0) << name;
    EXPECT_DOUBLE_EQ(schedule.factor(5), 0.5) << name;
    EXPECT_DOUBLE_EQ(schedule.factor(10), 1) << name;
  }
  EXPECT_EQ(LrSchedule(ScheduleType::kConstant, 10, 100, 1e-3).factor(0), 1);
}

TEST(LrSchedule, EndsWhereItShould) {
  const double rate = 1e-3;
  auto at = [&](const char* name, int64_t t) {
    return LrSchedule(schedule_from_name(name), 10, 110, rate).factor(t);
  };
  EXPECT_DOUBLE_EQ(at("linear", 60), 0.5);
  EXPECT_DOUBLE_EQ(at("linear", 110), 0);
  EXPECT_NEAR(at("cosine", 60), 0.5, 1e-15);
  EXPECT_NEAR(at("cosine", 35), 0.5 * (1 + std::cos(std::numbers::pi / 4)), 1e-15);
  EXPECT_NEAR(at("cosine_with_restarts", 60), 0.5, 1e-15);
  EXPECT_EQ(at("cosine_with_restarts", 110), 0);
  EXPECT_NEAR(at("polynomial", 110) * rate, 1e-7, 1e-18);
  EXPECT_NEAR(at("polynomial", 500) * rate, 1e-7, 1e-18);
  EXPECT_NEAR(at("polynomial", 60) * rate, (rate + 1e-7) / 2, 1e-18);
  EXPECT_EQ(at("constant_with_warmup", 109), 1);
}

TEST(LrSchedule, WarmUpIsAShareOrACount) {
  EXPECT_EQ(resolve_warmup_steps(0.03, 1000), 30);
  EXPECT_EQ(resolve_warmup_steps(0.03, 99), 2);
  EXPECT_EQ(resolve_warmup_steps(1, 50), 50);
  EXPECT_EQ(resolve_warmup_steps(7.9, 50), 7);
  EXPECT_EQ(resolve_warmup_steps(0, 50), 0);
}

TEST(LrSchedule, RefusesWhatItDoesNotKnow) {
  EXPECT_THROW(schedule_from_name("cosin"), Error);
  EXPECT_THROW(LrSchedule(ScheduleType::kPolynomial, 0, 10, 1e-8), Error);
}

}  // namespace
}  // namespace facet
