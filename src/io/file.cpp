#include "io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/progress.h"
#include "io/input_file.h"

namespace facet {

std::string directory_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

void sync_directory(const std::string& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

int64_t free_bytes(const std::string& path) {
  struct statvfs info {};
  CHECK(::statvfs(path.c_str(), &info) == 0, ExitCode::kIo, "{}: {}", path, std::strerror(errno));
  return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
}

std::string read_file(const std::string& path, int64_t max_bytes, ExitCode unreadable) {
  const InputFile file(path, unreadable);
  CHECK(file.bytes() <= max_bytes, ExitCode::kBadData,
        "{}: {} bytes, at most {} are read; is it the right file?", path, file.bytes(), max_bytes);
  std::string text(static_cast<size_t>(file.bytes()), '\0');
  file.read_at(0, text.data(), file.bytes());
  return text;
}

void make_directories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  CHECK(!error && std::filesystem::is_directory(path, error), ExitCode::kIo,
        "{}: cannot create the directory: {}", path,
        error ? error.message() : std::string("a file of that name exists"));
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  const auto create = [this](const std::string& name) {
    temporary_ = name;
    fd_ = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    return fd_ >= 0;
  };
  if (!at_partial_name(path_, create)) fail_errno("cannot be created", 0);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::fail_errno(const char* action, int64_t bytes) const {
  const int reason = errno;
  fail(ExitCode::kIo, "{}: {} ({} bytes after {} written): {}; free space or choose another place",
       path_, action, bytes, written_, std::strerror(reason));
}

void AtomicFile::reserve(int64_t bytes) {
  if (bytes <= 0) return;
  int result = 0;
  do result = ::posix_fallocate(fd_, 0, bytes);
  while (result == EINTR);
  // Some file systems cannot reserve space; there the writes themselves fail on a full disk.
  if (result == 0 || result == EOPNOTSUPP || result == EINVAL) return;
  errno = result;
  fail_errno("cannot reserve the space", bytes);
}

void AtomicFile::write(const void* data, int64_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::write(fd_, next, static_cast<size_t>(std::min(bytes, kWritePieceBytes)));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("writing failed", bytes);
    next += n;
    bytes -= n;
    written_ += n;
    note_progress();
  }
}

void AtomicFile::commit() {
  ASSERT(fd_ >= 0, "{} is committed twice", path_);
  // More may have been reserved than was written.
  if (::ftruncate(fd_, written_) != 0) fail_errno("cannot set the length", written_);
  if (::fsync(fd_) != 0) fail_errno("flushing failed", written_);
  const int closed = ::close(fd_);
  fd_ = -1;
  if (closed != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int reason = errno;
    ::unlink(temporary_.c_str());
    errno = reason;
    fail_errno("cannot be renamed to its final name", written_);
  }
  sync_directory(directory_of(path_));
}

// O_NONBLOCK: a FIFO of that name is an error, and nothing to wait for.
void append_to_file(const std::string& path, std::string_view text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC, 0666);
  CHECK(fd >= 0, ExitCode::kIo, "{}: cannot be opened for writing: {}", path, std::strerror(errno));
  int reason = 0;
  while (!text.empty() && reason == 0) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n >= 0) text.remove_prefix(static_cast<size_t>(n));
    if (n < 0 && errno != EINTR) reason = errno;
  }
  if (::close(fd) != 0 && reason == 0) reason = errno;
  CHECK(reason == 0, ExitCode::kIo, "{}: writing failed: {}", path, std::strerror(reason));
}

void sync_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  const bool flushed = fd >= 0 && ::fsync(fd) == 0;
  const int reason = errno;
  if (fd >= 0) ::close(fd);
  CHECK(flushed, ExitCode::kIo, "{}: can't be flushed: {}", path, std::strerror(reason));
}

void write_file(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace facet
