// What is opened as a file of the outside world, and what is refused.
#include "io/input_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <vector>

#include "io/file.h"
#include "tests/io/temporary_directory.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

void make_socket(const std::string& path) {
  struct sockaddr_un address {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ::close(fd);
}

// A reader that waited would wait for ever: nobody writes.
TEST(InputFile, OnlyRegularFilesAreOpened) {
  const TemporaryDirectory directory;
  ASSERT_EQ(::mkfifo((directory / "fifo").c_str(), 0600), 0);
  make_socket(directory / "socket");
  fs::create_symlink("fifo", directory / "link");
  const std::vector<std::pair<std::string, std::string>> refused = {
      {directory / "fifo", "a FIFO (named pipe), not a regular file"},
      {directory / "link", "a FIFO (named pipe), not a regular file"},
      {directory / "socket", "a socket, not a regular file"},
      {directory.path(), "a directory, not a regular file"},
      {"/dev/zero", "a device, not a regular file"},
      {directory / "none", "cannot be opened: No such file or directory"},
      {directory / "fifo/x", "cannot be opened: Not a directory"}};
  for (const auto& [path, reason] : refused) {
    EXPECT_TRUE(mentions(error_of([&] { InputFile file(path); }), "66: " + path + ": " + reason));
    EXPECT_TRUE(mentions(error_of([&] { read_file(path, 100); }), "66: " + path + ": " + reason));
  }
  directory.put("file", "content");
  fs::create_symlink("file", directory / "good");
  EXPECT_EQ(read_file(directory / "good", 7), "content");
  EXPECT_TRUE(
      mentions(error_of([&] { read_file(directory / "good", 6); }), "7 bytes, at most 6 are read"));
}

TEST(InputFile, ReadsRangesAndNoFurther) {
  const TemporaryDirectory directory;
  const InputFile file(directory.put("file", "0123456789"));
  EXPECT_EQ(file.bytes(), 10);
  std::string text(4, ' ');
  file.read_at(5, text.data(), 4);
  EXPECT_EQ(text, "5678");
  EXPECT_TRUE(mentions(error_of([&] { file.read_at(8, text.data(), 4); }), "65: "));
  Hasher hasher;
  file.hash_into(hasher, 2, 3);
  EXPECT_EQ(hasher.digest(), hash_of("234", 3));
}

// An open file too many says nothing about the file that is to be read: a sample is not bad by it.
TEST(InputFile, TooManyOpenFilesAreTheSystemsLimit) {
  const TemporaryDirectory directory;
  const std::string path = directory.put("file", "content");
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  struct rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const std::string error = error_of([&] { InputFile file(path); });
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(mentions(error, "71: "));
  EXPECT_TRUE(mentions(error, "raise ulimit -n"));
}

}  // namespace
}  // namespace facet
