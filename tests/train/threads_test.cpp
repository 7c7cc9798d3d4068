// Cores are divided among the ranks that may use them.
#include "train/threads.h"

#include <gtest/gtest.h>

#include "tests/failing_threads.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

TEST(Threads, CoresAreSharedByTheRanksBoundToThem) {
  // Two ranks on all four cores of one host, one rank alone on another host of the same size.
  const std::vector<std::string> shared = {"a 1111", "a 1111", "b 1111"};
  EXPECT_EQ(share_of_cores(shared, 0), 2);
  EXPECT_EQ(share_of_cores(shared, 1), 2);
  EXPECT_EQ(share_of_cores(shared, 2), 4);
  // Each rank bound to its own cores; then overlapping.
  EXPECT_EQ(share_of_cores({"a 1100", "a 0011"}, 1), 2);
  EXPECT_EQ(share_of_cores({"a 1110", "a 0010"}, 0), 2.5);
  EXPECT_EQ(share_of_cores({"a 1110", "a 0010"}, 1), 0.5);
  // A host whose name begins like another's is another host.
  EXPECT_EQ(share_of_cores({"a1 11", "a11 11"}, 0), 2);
}

// OpenMP would end the process.
TEST(Threads, ThoseThatCannotStartAreAnError) {
  Communicator world(MPI_COMM_SELF);
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  std::string error;
  {
    const ThreadLimit limit(2);
    error = error_of([&] { choose_threads(world, "host", 4); });
  }
  EXPECT_EQ(choose_threads(world, "host", 3), 3);
  testing::internal::GetCapturedStdout();
  testing::internal::GetCapturedStderr();
  EXPECT_TRUE(mentions(error, "71: can't start a thread for computing: "));
}

}  // namespace
}  // namespace facet
