// The watchdog's thread; what it reports is tested end to end (tests/e2e/watchdog.sh).
#include "comm/watchdog.h"

#include <gtest/gtest.h>

#include "comm/mpi_session.h"
#include "tests/failing_threads.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

TEST(Watchdog, AThreadThatCannotStartOnOneRankIsAnErrorOnAll) {
  Communicator world(MPI_COMM_WORLD);
  const bool fails = world.rank() == world.size() - 1;
  const Watchdog::Questions questions{.last_line = [](ExitCode) { return ""; }};
  std::string error;
  {
    const ThreadLimit limit(fails ? 0 : 100);
    error = error_of([&] { Watchdog(world, "host", questions); });
  }
  EXPECT_TRUE(mentions(error, "71: "));
  EXPECT_TRUE(mentions(error, "can't start a thread for the watchdog: "));
  Watchdog works(world, "host", questions);
}

}  // namespace
}  // namespace facet
