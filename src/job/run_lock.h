// One run at a time on an output directory.
//
// OUT/run.lock names the host, process and job that hold the directory; the holder also keeps a
// file lock (flock) on it, which the system gives back when the process dies in whatever way. So on
// the same host a dead holder is known for certain and its lock is taken over; a holder on another
// host is never doubted.
#pragma once

#include <string>

namespace facet {

class RunLock {
 public:
  // Throws Error(kConfig) that names the holder when the directory is taken, and Error(kIo) when it
  // can't be written.
  // Also removes what runs that were killed left half-written (NAME.partial-PID).
  explicit RunLock(const std::string& output_dir);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  // Who held the lock and died; empty when it was free.
  const std::string& dead_holder() const { return dead_holder_; }

 private:
  std::string path_;
  int fd_ = -1;
  std::string dead_holder_;
};

}  // namespace facet
