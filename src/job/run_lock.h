// One run at a time on an output directory, which no dead run keeps.
//
// Whether the holder that OUT/run.lock names still lives is decided so:
// - on the same machine by the file lock on it, and without one by the process;
// - an earlier life of the same Slurm job (it was requeued), or a job that squeue does not know any
//   more, is dead when the file shows no sign of life for LockTimes::gone; a job that squeue knows
//   lives;
// - of any other nothing is known: it is dead when it shows none for LockTimes::silent.
// A sign of life is a new time of the file, which the holder renews every LockTimes::beat. A holder
// that finds its lock taken ends (on_loss).
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "job/lock_file.h"
#include "job/lock_holder.h"
#include "job/stop_signals.h"

namespace facet {

struct LockTimes {  // seconds
  double beat = 5;
  double gone = 10;
  double silent = 60;
  double settle = 1;  // after writing over another machine's lock: has anybody else done so too?
  double poll = 0.25;
};

struct LockRequest {
  std::string output_dir;
  std::string another_place = "another --output_dir";  // that a second run may choose
  SlurmJob job = SlurmJob::of_this_process();
  LockHolder me = LockHolder::this_process(job);
  LockTimes times = {};
  // Called by a thread of the lock with the name of the run that has taken it over; without it the
  // run just goes on.
  std::function<void(const std::string&)> on_loss = {};
  std::function<const char*()> stop_signal = facet::stop_signal;  // which ends the waiting
};

class RunLock {
 public:
  // Waits as long as it takes to know whether the holder lives. Throws Error(kConfig) naming the
  // holder if the directory is in use, Error(kIo) if it cannot be written.
  explicit RunLock(LockRequest request);
  explicit RunLock(const std::string& output_dir)
      : RunLock(LockRequest{.output_dir = output_dir}) {}
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  // The holder that died, if the lock was taken over; else empty.
  const std::string& dead_holder() const { return dead_holder_; }

 private:
  void keep();  // by thread_
  void beat();
  void restore();

  const LockRequest request_;
  const std::string line_;  // of this process
  LockFile file_;
  std::string dead_holder_;
  std::mutex mutex_;
  bool stop_ = false;
  std::condition_variable wake_;
  std::thread thread_;
};

}  // namespace facet
