#include "tests/checkpoint/disk_recorder.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <mutex>

namespace {

std::atomic<bool> records{false};
std::mutex calls_mutex;
std::vector<facet::DiskCall> calls;

void note(facet::DiskCall::Kind kind, const std::string& path) {
  const std::lock_guard lock(calls_mutex);
  calls.push_back({kind, path});
}

void note_file(facet::DiskCall::Kind kind, int fd) {
  if (!records) return;
  std::error_code error;
  note(kind, std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), error));
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

int fsync(int fd) {
  note_file(facet::DiskCall::Kind::kFlush, fd);
  return static_cast<int>(syscall(SYS_fsync, fd));
}

int rename(const char* from, const char* to) noexcept {
  if (records) note(facet::DiskCall::Kind::kRename, to);
  return static_cast<int>(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

}  // extern "C"
