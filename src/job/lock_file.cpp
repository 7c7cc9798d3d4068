#include "job/lock_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace facet {

namespace {

// A FIFO or device of that name must not block.
constexpr int kSafely = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;

bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

}  // namespace

LockFile::Opened LockFile::open() {
  close();
  constexpr int kTries = 100;  // others may create and remove it meanwhile
  for (int i = 0; fd_ < 0 && i < kTries; ++i) {
    fd_ = ::open(path_.c_str(), O_RDWR | kSafely);
    if (fd_ >= 0 || errno != ENOENT) break;
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | kSafely, 0644);
    if (fd_ >= 0) return Opened::kCreated;
    if (errno != EEXIST) break;
  }
  CHECK(fd_ >= 0, ExitCode::kIo, "{}: {}", path_,
        errno == ELOOP ? "is a symbolic link; remove it"
                       : std::string("can't be written: ") + std::strerror(errno));
  struct stat info {};
  CHECK(::fstat(fd_, &info) == 0 && S_ISREG(info.st_mode), ExitCode::kIo,
        "{}: is no regular file; remove it", path_);
  return Opened::kThere;
}

void LockFile::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

LockFile::FileLock LockFile::lock() {
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return FileLock::kThisProcess;
  return errno == EWOULDBLOCK ? FileLock::kAnother : FileLock::kNobody;
}

std::optional<LockFile::Content> LockFile::look() const {
  const int file = ::open(path_.c_str(), O_RDONLY | kSafely);
  if (file < 0) return std::nullopt;
  struct stat there {
  }, here{};
  std::array<char, 4096> text;
  const bool known = ::fstat(file, &there) == 0 && S_ISREG(there.st_mode);
  const ssize_t length = known ? ::read(file, text.data(), text.size()) : -1;
  ::close(file);
  if (length < 0) return std::nullopt;
  Content content;
  content.text.assign(text.data(), static_cast<size_t>(length));
  std::erase(content.text, '\0');
  constexpr int64_t kSecond = 1'000'000'000;
  content.changed = int64_t{there.st_mtim.tv_sec} * kSecond + there.st_mtim.tv_nsec;
  content.is_ours = fd_ >= 0 && ::fstat(fd_, &here) == 0 && same_file(there, here);
  return content;
}

void LockFile::write(const std::string& text) {
  const auto length = static_cast<ssize_t>(text.size());
  CHECK(::ftruncate(fd_, 0) == 0 && ::pwrite(fd_, text.data(), text.size(), 0) == length &&
            ::fsync(fd_) == 0,
        ExitCode::kIo, "{}: can't be written: {}", path_, std::strerror(errno));
}

void LockFile::renew() const {
  // By name: the server's clock counts, and whoever is asked is the server.
  static_cast<void>(::utimensat(AT_FDCWD, path_.c_str(), nullptr, AT_SYMLINK_NOFOLLOW));
}

void LockFile::restore(const std::string& text) {
  const int file = ::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | kSafely, 0644);
  if (file < 0) return;
  close();
  fd_ = file;
  lock();
  write(text);
}

void LockFile::remove() {
  ::unlink(path_.c_str());
  close();
}

}  // namespace facet
