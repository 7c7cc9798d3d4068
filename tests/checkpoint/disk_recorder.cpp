#include "tests/checkpoint/disk_recorder.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <mutex>

namespace {

std::atomic<bool> records{false};
std::mutex calls_mutex;
std::vector<facet::DiskCall> calls;
std::string unreadable;  // the end of a path

void note(facet::DiskCall::Kind kind, const std::string& path) {
  const std::lock_guard lock(calls_mutex);
  calls.push_back({kind, path});
}

std::string path_of(int fd) {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), error);
}

void note_file(facet::DiskCall::Kind kind, int fd) {
  if (records) note(kind, path_of(fd));
}

}  // namespace

namespace facet {

void record_disk_calls() {
  const std::lock_guard lock(calls_mutex);
  calls.clear();
  records = true;
}

std::vector<DiskCall> recorded_disk_calls() {
  records = false;
  const std::lock_guard lock(calls_mutex);
  return calls;
}

void fail_reads_of(const std::string& end) { unreadable = end; }

}  // namespace facet

// The program's own definitions go before the C library's.
extern "C" {

ssize_t pwrite(int fd, const void* data, size_t bytes, off_t offset) {
  note_file(facet::DiskCall::Kind::kWrite, fd);
  return syscall(SYS_pwrite64, fd, data, bytes, offset);
}

ssize_t pwrite64(int fd, const void* data, size_t bytes, off64_t offset) {
  return pwrite(fd, data, bytes, offset);
}

ssize_t pread(int fd, void* data, size_t bytes, off_t offset) {
  if (!unreadable.empty() && path_of(fd).ends_with(unreadable)) {
    errno = EIO;
    return -1;
  }
  return syscall(SYS_pread64, fd, data, bytes, offset);
}

ssize_t pread64(int fd, void* data, size_t bytes, off64_t offset) {
  return pread(fd, data, bytes, offset);
}

int fsync(int fd) {
  note_file(facet::DiskCall::Kind::kFlush, fd);
  return static_cast<int>(syscall(SYS_fsync, fd));
}

int fdatasync(int fd) {
  note_file(facet::DiskCall::Kind::kFlush, fd);
  return static_cast<int>(syscall(SYS_fdatasync, fd));
}

int posix_fadvise(int fd, off_t offset, off_t bytes, int advice) noexcept {
  if (advice == POSIX_FADV_DONTNEED) note_file(facet::DiskCall::Kind::kForget, fd);
  return syscall(SYS_fadvise64, fd, offset, bytes, advice) == 0 ? 0 : errno;
}

int rename(const char* from, const char* to) noexcept {
  if (records) note(facet::DiskCall::Kind::kRename, to);
  return static_cast<int>(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

}  // extern "C"
