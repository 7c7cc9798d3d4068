#include "io/shared_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/progress.h"
#include "io/file.h"

namespace facet {

namespace {

constexpr int64_t kFlushBytes = int64_t{256} << 20;

}  // namespace

SharedFile SharedFile::create(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
  CHECK(fd >= 0, ExitCode::kIo, "{}: cannot be created: {}", path, std::strerror(errno));
  return SharedFile(path, fd);
}

SharedFile SharedFile::open_for_writing(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
  CHECK(fd >= 0, ExitCode::kIo, "{}: cannot be opened for writing: {}", path, std::strerror(errno));
  return SharedFile(path, fd);
}

SharedFile::SharedFile(SharedFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

SharedFile::~SharedFile() {
  if (fd_ >= 0) ::close(fd_);
}

void SharedFile::fail_errno(const char* action, int64_t offset, int64_t bytes) const {
  const int reason = errno;
  fail(ExitCode::kIo, "{}: {} ({} bytes at {}): {}; free space or choose another place", path_,
       action, bytes, offset, std::strerror(reason));
}

int64_t SharedFile::size() const {
  struct stat info {};
  CHECK(::fstat(fd_, &info) == 0 && S_ISREG(info.st_mode), ExitCode::kBadData,
        "{}: not a regular file", path_);
  return info.st_size;
}

void SharedFile::reserve(int64_t bytes) {
  int result = 0;
  do result = ::posix_fallocate(fd_, 0, bytes);
  while (result == EINTR);
  // Some file systems cannot reserve space; there the writes themselves fail on a full disk.
  if (result == 0 || result == EOPNOTSUPP || result == EINVAL) return;
  errno = result;
  fail_errno("cannot reserve the space", 0, bytes);
}

void SharedFile::write_at(int64_t offset, const void* data, int64_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n =
        ::pwrite(fd_, next, static_cast<size_t>(std::min(bytes, kWritePieceBytes)), offset);
    note_progress();
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("writing failed", offset, bytes);
    next += n;
    offset += n;
    bytes -= n;
    unflushed_ += n;
  }
  if (unflushed_ < kFlushBytes) return;
  if (::fdatasync(fd_) != 0) fail_errno("flushing failed", offset, 0);
  note_progress();
  unflushed_ = 0;
}

void SharedFile::close() {
  if (::fsync(fd_) != 0) fail_errno("flushing failed", 0, 0);
  if (::close(std::exchange(fd_, -1)) != 0) fail_errno("closing failed", 0, 0);
}

}  // namespace facet
