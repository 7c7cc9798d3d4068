// For LD_PRELOAD: a system that refuses what it would refuse on a full disk or at a limit, or halts
// at a moment a test can name.
//
//   FULL_DISK_FOR=TEXT    what is written to a file whose path contains TEXT fails with ENOSPC
//   NO_HANDLES_FOR=TEXT   opening it fails with EMFILE
//   STOPS_AT=TEXT         opening it stops the process, as SIGSTOP does
//   THREADS_AT_MOST=N     of more threads, MPI's included, none starts
//
// All else is untouched.
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace {

std::array<std::atomic<bool>, 4096> is_full;  // by file descriptor; the tests open fewer files

template <typename Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

bool is_meant(const char* variable, const char* path) {
  const char* const text = std::getenv(variable);
  return text != nullptr && path != nullptr && std::strstr(path, text) != nullptr;
}

void mark(int fd, bool full) {
  if (fd >= 0) is_full.at(static_cast<size_t>(fd)) = full;
}

// What every kind of open() does around the system's.
template <typename Open>
int opened(const char* path, int flags, const Open& open_it) {
  if (is_meant("STOPS_AT", path)) kill(getpid(), SIGSTOP);
  if (is_meant("NO_HANDLES_FOR", path)) {
    errno = EMFILE;
    return -1;
  }
  const int fd = open_it();
  const bool writes = (flags & O_ACCMODE) != O_RDONLY;
  mark(fd, writes && is_meant("FULL_DISK_FOR", path));
  return fd;
}

bool full(int fd) {
  const bool yes = fd >= 0 && is_full.at(static_cast<size_t>(fd));
  if (yes) errno = ENOSPC;
  return yes;
}

mode_t mode_of(va_list arguments, int flags) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

}  // namespace

extern "C" {

#define OPEN(name)                                                        \
  int name(const char* path, int flags, ...) {                            \
    va_list arguments;                                                    \
    va_start(arguments, flags);                                           \
    const mode_t mode = mode_of(arguments, flags);                        \
    va_end(arguments);                                                    \
    static const auto real = next<int (*)(const char*, int, ...)>(#name); \
    return opened(path, flags, [&] { return real(path, flags, mode); });  \
  }
OPEN(open)
OPEN(open64)

#define OPEN_2(name)                                                 \
  int name(const char* path, int flags) {                            \
    static const auto real = next<int (*)(const char*, int)>(#name); \
    return opened(path, flags, [&] { return real(path, flags); });   \
  }
OPEN_2(__open_2)
OPEN_2(__open64_2)

#define FOPEN(name)                                                                            \
  FILE* name(const char* path, const char* mode) {                                             \
    static const auto real = next<FILE* (*)(const char*, const char*)>(#name);                 \
    const bool writes = std::strpbrk(mode, "wa+") != nullptr;                                  \
    const char* const target = writes && is_meant("FULL_DISK_FOR", path) ? "/dev/full" : path; \
    if (!is_meant("NO_HANDLES_FOR", path)) return real(target, mode);                          \
    errno = EMFILE;                                                                            \
    return nullptr;                                                                            \
  }
FOPEN(fopen)
FOPEN(fopen64)

int close(int fd) {
  static const auto real = next<int (*)(int)>("close");
  mark(fd, false);
  return real(fd);
}

ssize_t write(int fd, const void* data, size_t bytes) {
  static const auto real = next<ssize_t (*)(int, const void*, size_t)>("write");
  return full(fd) ? -1 : real(fd, data, bytes);
}

#define PWRITE(name)                                                                    \
  ssize_t name(int fd, const void* data, size_t bytes, off_t offset) {                  \
    static const auto real = next<ssize_t (*)(int, const void*, size_t, off_t)>(#name); \
    return full(fd) ? -1 : real(fd, data, bytes, offset);                               \
  }
PWRITE(pwrite)
PWRITE(pwrite64)

#define FALLOCATE(name)                                               \
  int name(int fd, off_t offset, off_t bytes) {                       \
    static const auto real = next<int (*)(int, off_t, off_t)>(#name); \
    return full(fd) ? ENOSPC : real(fd, offset, bytes);               \
  }
FALLOCATE(posix_fallocate)
FALLOCATE(posix_fallocate64)

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*),
                   void* argument) noexcept {
  static const char* const most = std::getenv("THREADS_AT_MOST");
  static std::atomic<int> started = 0;
  if (most != nullptr && started.fetch_add(1) >= std::atoi(most)) return EAGAIN;
  static const auto real =
      next<int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)>("pthread_create");
  return real(thread, attributes, run, argument);
}

}  // extern "C"
