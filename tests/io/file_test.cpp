// Writing files, and cleaning up after killed processes.
#include "io/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "base/progress.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 3> kOwn = {"latest", "epoch-#/", "step_########/"};

TEST(TidyDirectory, GivesAReplacedNameBackWhereNothingHasIt) {
  const TemporaryDirectory directory;
  directory.put("epoch-1.replaced-12/file", "good");
  directory.put("epoch-2.replaced-12/file", "old");
  directory.put("epoch-2/file", "new");
  tidy_directory(directory.path(), kOwn);
  EXPECT_EQ(read_file(directory / "epoch-1/file", 100), "good");
  EXPECT_EQ(read_file(directory / "epoch-2/file", 100), "new");
  EXPECT_FALSE(fs::exists(directory / "epoch-1.replaced-12"));
  EXPECT_FALSE(fs::exists(directory / "epoch-2.replaced-12"));
}

TEST(TidyDirectory, RemovesWhatIsHalfDone) {
  const TemporaryDirectory directory;
  const std::vector<std::string> left = {"latest.partial-1",
                                         "latest.partial-1-3",
                                         "epoch-9.removed-22/file",
                                         "epoch-123.partial-4/file",
                                         "step_00000012.partial-5/file",
                                         "step_00000012.removed-5-1/file",
                                         "step_123456789.removed-5/f",
                                         "epoch-0.replaced-7/file"};
  directory.put("epoch-0/file", "new");
  for (const std::string& name : left) directory.put(name, "half");
  tidy_directory(directory.path(), kOwn);
  for (const std::string& name : left)
    EXPECT_FALSE(fs::exists(directory / name.substr(0, name.find('/')))) << name;
  EXPECT_TRUE(fs::exists(directory / "epoch-0/file"));
  tidy_directory(directory / "nowhere", kOwn);
}

// A user's file may have any name.
TEST(TidyDirectory, LeavesWhatThisProgramDidNotMake) {
  const TemporaryDirectory directory;
  const std::vector<std::string> others = {"thesis.partial-2",         "notes.replaced-3",
                                           "photos.removed-1/a.jpg",   "epoch-.partial-1/f",
                                           "epoch-1x.partial-1/f",     "xepoch-1.partial-1/f",
                                           "epoch-1.partial-1",        "latest.partial-1x",
                                           "latest.partial-",          "latest.partial-1-",
                                           "latest.partial--1",        "latest2.partial-1",
                                           "latest.removed-x",         ".partial-3",
                                           "step_0000001.partial-1/f", "step_00000001.partial-1",
                                           "epoch-1-2.partial-1/f",    "epoch-1.tar.partial-1/f",
                                           "latest.partial-8/f",       "latest.replaced-1x"};
  for (const std::string& name : others) directory.put(name, "whole");
  directory.put("elsewhere/file", "whole");
  fs::create_directory_symlink(directory / "elsewhere", directory / "epoch-5.partial-1");
  tidy_directory(directory.path(), kOwn);
  for (const std::string& name : others) EXPECT_TRUE(fs::exists(directory / name)) << name;
  EXPECT_TRUE(fs::exists(directory / "epoch-5.partial-1/file"));
}

// Somebody has put a link where the unfinished file would be: what it names stays as it is.
TEST(AtomicFile, NeverWritesThroughALink) {
  const TemporaryDirectory directory;
  const std::string precious = directory.put("precious", "mine");
  const std::string partial = fmt::format("{}.partial-{}", directory / "file", ::getpid());
  fs::create_symlink(precious, partial);
  write_file(directory / "file", "new");
  EXPECT_EQ(read_file(directory / "file", 100), "new");
  EXPECT_EQ(read_file(precious, 100), "mine");
  EXPECT_TRUE(fs::is_symlink(partial));  // not ours to remove
}

TEST(PartialDirectory, IsANewOne) {
  const TemporaryDirectory directory;
  fs::create_directory(directory / "precious");
  fs::create_directory_symlink(directory / "precious",
                               fmt::format("{}.partial-{}", directory / "a", ::getpid()));
  const std::string made = make_partial_directory(directory / "a");
  EXPECT_EQ(made, fmt::format("{}.partial-{}-1", directory / "a", ::getpid()));
  EXPECT_TRUE(fs::is_directory(made));
  EXPECT_TRUE(mentions(error_of([] { make_partial_directory("/proc/none/a"); }), "74: "));
}

TEST(AppendToFile, AddsAndWaitsForNobody) {
  const TemporaryDirectory directory;
  append_to_file(directory / "list", "a\n");
  append_to_file(directory / "list", "b\n");
  EXPECT_EQ(read_file(directory / "list", 100), "a\nb\n");
  ASSERT_EQ(::mkfifo((directory / "fifo").c_str(), 0600), 0);
  EXPECT_TRUE(mentions(error_of([&] { append_to_file(directory / "fifo", "a"); }), "74: "));
  EXPECT_TRUE(mentions(error_of([&] { append_to_file(directory / "no/list", "a"); }), "74: "));
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
