// Writing files, and cleaning up after killed processes.
#include "io/file.h"

#include <gtest/gtest.h>

#include "base/progress.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

TEST(TidyDirectory, GivesAReplacedNameBackWhereNothingHasIt) {
  const TemporaryDirectory directory;
  directory.put("lost.replaced-12/file", "good");
  directory.put("there.replaced-12/file", "old");
  directory.put("there/file", "new");
  tidy_directory(directory.path());
  EXPECT_EQ(read_file(directory / "lost/file", 100), "good");
  EXPECT_EQ(read_file(directory / "there/file", 100), "new");
  EXPECT_FALSE(fs::exists(directory / "lost.replaced-12"));
  EXPECT_FALSE(fs::exists(directory / "there.replaced-12"));
}

TEST(TidyDirectory, RemovesWhatIsHalfDoneAndNothingElse) {
  const TemporaryDirectory directory;
  for (const char* name : {"a.partial-1", "b.removed-22/file"}) directory.put(name, "half");
  const auto others = {"a", "c.partial-", "d.removed-x", "e.replaced-1x", ".partial-3"};
  for (const char* name : others) directory.put(name, "whole");
  tidy_directory(directory.path());
  EXPECT_FALSE(fs::exists(directory / "a.partial-1"));
  EXPECT_FALSE(fs::exists(directory / "b.removed-22"));
  for (const char* name : others) EXPECT_TRUE(fs::exists(directory / name)) << name;
  tidy_directory(directory / "nowhere");
}

// Who writes for long is not taken for hung.
TEST(File, EveryPieceWrittenIsProgress) {
  const TemporaryDirectory directory;
  AtomicFile file(directory / "file");
  const std::string text(static_cast<size_t>(2 * kWritePieceBytes + 7), 'x');
  const int64_t before = steady_now();
  file.write(text);
  const int64_t after = my_progress().progress.load();
  EXPECT_GT(after, before);
  file.write("");
  EXPECT_EQ(my_progress().progress.load(), after);  // nothing written
}

}  // namespace
}  // namespace facet
