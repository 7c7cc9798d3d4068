// Makes the system refuse threads. One file of a test program includes it: it defines
// pthread_create in place of the C library's.
#pragma once

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <climits>

namespace facet {

inline std::atomic<int> threads_left{INT_MAX};

// During its lifetime so many more threads can start.
class ThreadLimit {
 public:
  explicit ThreadLimit(int most) { threads_left = most; }
  ~ThreadLimit() { threads_left = INT_MAX; }
  ThreadLimit(const ThreadLimit&) = delete;
  ThreadLimit& operator=(const ThreadLimit&) = delete;
};

}  // namespace facet

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*run)(void*), void* argument) noexcept {
  if (facet::threads_left.fetch_sub(1) <= 0) return EAGAIN;
  static void* const next = dlsym(RTLD_NEXT, "pthread_create");
  return reinterpret_cast<decltype(&pthread_create)>(next)(thread, attributes, run, argument);
}
