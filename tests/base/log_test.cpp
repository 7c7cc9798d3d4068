#include "base/log.h"

#include <gtest/gtest.h>

#include <regex>

namespace facet {
namespace {

using ::testing::internal::CaptureStderr;
using ::testing::internal::CaptureStdout;
using ::testing::internal::GetCapturedStderr;
using ::testing::internal::GetCapturedStdout;

TEST(Log, TheOutsideWorldBeginsNoLine) {
  CaptureStdout();
  log("read {}", "a\nEXIT code=0\x1b[2J.jpg");
  log_line("memory\n  values 1");
  EXPECT_EQ(GetCapturedStdout(), "read a\\nEXIT code=0\\x1b[2J.jpg\nmemory\n  values 1\n");
  CaptureStderr();
  warn("{} is gone", "a\r\nb");
  EXPECT_EQ(GetCapturedStderr(), "warning: a\\r\\nb is gone\n");
}

TEST(Log, LinesAreLogLines) {
  CaptureStdout();
  log_lines("seed = 1\noutput_dir = caf\xe9\n");
  log_lines("");
  log_lines("a\n\nb");
  EXPECT_EQ(GetCapturedStdout(), "seed = 1\noutput_dir = caf\\xe9\na\n\nb\n");
}

// A message is one line of the log, or begins with one.
TEST(Log, LinesCanBeginWithTheTimeOfDay) {
  set_line_stamps(LineStamps::kTimeOfDay);
  CaptureStdout();
  log_line("memory\n  values 1");
  log_lines("seed = 1\nthreads = 2\n");  // to be read as a whole
  CaptureStderr();
  warn("b");
  set_line_stamps(LineStamps::kNone);
  const std::string time = "20[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} ";
  const std::string out = GetCapturedStdout(), err = GetCapturedStderr();
  EXPECT_TRUE(
      std::regex_match(out, std::regex(time + "memory\n  values 1\nseed = 1\nthreads = 2\n")))
      << out;
  EXPECT_TRUE(std::regex_match(err, std::regex(time + "warning: b\n"))) << err;
}

}  // namespace
}  // namespace facet
