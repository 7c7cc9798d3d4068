#include "job/slurm_time.h"

#include <gtest/gtest.h>

#include "base/check.h"

namespace facet {
namespace {

TEST(SlurmTime, EveryFormOfATime) {
  EXPECT_EQ(parse_slurm_time("7"), 7);
  EXPECT_EQ(parse_slurm_time("0:00"), 0);
  EXPECT_EQ(parse_slurm_time("59:58"), 59 * 60 + 58);
  EXPECT_EQ(parse_slurm_time("1:02:03"), 3723);
  EXPECT_EQ(parse_slurm_time("12:00:00"), 43200);
  EXPECT_EQ(parse_slurm_time("2-03:04:05"), 2 * 86400 + 3 * 3600 + 4 * 60 + 5);
}

TEST(SlurmTime, NoLimit) {
  for (const char* text : {"UNLIMITED", "NOT_SET", "INVALID"})
    EXPECT_FALSE(parse_slurm_time(text)) << text;
}

TEST(SlurmTime, AnythingElseIsAnError) {
  for (const char* text : {"", "soon", "1:", ":1", "1:2:3:4", "1-", "-1:00", "1:-2", "1-2-3:00",
                           "1:00 2:00", "1::2", "1:00\n2:00"})
    EXPECT_THROW(parse_slurm_time(text), Error) << text;
}

}  // namespace
}  // namespace facet
