// A library that ends the process by exit(): OpenMP's does where it can't start a thread. The other
// ranks would wait for this one, and nothing would say what to do.
#pragma once

#include <functional>

namespace facet {

class LibraryExit {
 public:
  // During its lifetime exit() calls `end_job`, which ends the job with an error. One at a time.
  explicit LibraryExit(std::function<void()> end_job);
  ~LibraryExit();
  LibraryExit(const LibraryExit&) = delete;
  LibraryExit& operator=(const LibraryExit&) = delete;

  // From now on exit() is no surprise: the job is being ended.
  static void expect();

  static constexpr const char* kMessage =
      "a library has ended the process; it has printed why before this line (\"Thread creation "
      "failed\": raise ulimit -u, or give fewer --threads)";
};

}  // namespace facet
