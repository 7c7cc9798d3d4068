#include "base/time_text.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>

namespace facet {
namespace {

using std::chrono::milliseconds;

WallTime at(int64_t ms) { return WallTime(milliseconds(ms)); }

TEST(TimeText, UtcHasMilliseconds) {
  EXPECT_EQ(utc_text(at(0)), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(utc_text(at(1'795'950'432'123)), "2026-11-29T11:07:12.123Z");
  EXPECT_EQ(utc_text(at(1'795'950'432'999)), "2026-11-29T11:07:12.999Z");  // not rounded up
  EXPECT_EQ(utc_text(at(-1)), "1969-12-31T23:59:59.999Z");
}

TEST(TimeText, LocalFollowsTheTimeZone) {
  setenv("TZ", "UTC-3", 1);  // three hours ahead
  tzset();
  EXPECT_EQ(local_text(at(1'795'950'432'123)), "2026-11-29 14:07:12");
  unsetenv("TZ");
  tzset();
}

}  // namespace
}  // namespace facet
