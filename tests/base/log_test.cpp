#include "base/log.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace facet
