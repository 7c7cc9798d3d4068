// One run at a time on an output directory.
//
// OUT/run.lock names the host, process and job that hold the directory; the holder also keeps a
// file lock (flock) on it, which the system releases however the process dies. So on the same host
// a dead holder is detected reliably and its lock is taken over; a holder on another host is always
// assumed to be alive.
#pragma once

#include <string>

namespace facet {

class RunLock {
 public:
  // Throws Error(kConfig) naming the holder if the directory is in use, Error(kIo) if it cannot be
  // written.
  explicit RunLock(const std::string& output_dir);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  // The holder that died, if the lock was taken over; else empty.
  const std::string& dead_holder() const { return dead_holder_; }

 private:
  std::string path_;
  int fd_ = -1;
  std::string dead_holder_;
};

}  // namespace facet
