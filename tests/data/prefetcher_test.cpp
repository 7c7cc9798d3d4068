// The threads that read ahead.
#include "data/prefetcher.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/failing_threads.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

// Those that have started must not be waited for without being told to end.
TEST(Prefetcher, AThreadThatCannotStartIsAnErrorAndNoHang) {
  ::alarm(30);  // ends a hang
  const auto prepare = [](const SampleRequest&, PreparedSample&) {};
  for (const int most : {0, 1, 3}) {
    const ThreadLimit limit(most);
    EXPECT_TRUE(mentions(error_of([&] { Prefetcher(prepare, 4, 8); }),
                         "71: can't start a thread for reading samples ahead: "));
  }
  Prefetcher works(prepare, 4, 8);
  works.restart([sent = false]() mutable -> std::optional<SampleRequest> {
    return std::exchange(sent, true) ? std::nullopt : std::optional(SampleRequest{});
  });
  EXPECT_EQ(works.next().request, SampleRequest{});
  ::alarm(0);
}

}  // namespace
}  // namespace facet
