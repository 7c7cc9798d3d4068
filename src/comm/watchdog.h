// A thread in every process that ends the job with one report when a rank hangs or has died. It
// calls no MPI: it only reads the node's shared memory (progress_board.h).
//
// A rank hangs when it has made no progress for longer than its section allows: the report names
// the ranks that the others wait for, and all processes end with ExitCode::kHang. Dead processes
// are looked for at all times: launchers send the survivors SIGTERM at once and SIGKILL a little
// later, and the report has to come in between.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "comm/hang_verdict.h"
#include "comm/progress_board.h"

namespace facet {

class Watchdog {
 public:
  // Makes the last line printed when the watchdog ends the job; called by its thread.
  using LastLine = std::function<std::string(ExitCode)>;

  // Collective. There are no limits until set_limits(). Error(kSystem) if the thread of a rank
  // can't start.
  Watchdog(Communicator& world, const std::string& host, LastLine last_line);
  // From now on this process may exit.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  void set_limits(const HangLimits& limits);

 private:
  void stop();
  void watch();
  void look();
  [[noreturn]] void report(ExitCode code, const std::string& text);
  void end_stopped_neighbours() const;
  void end_by_sigterm() const;

  const int64_t rank_;
  const std::vector<std::string> hosts_;  // of all ranks of the job
  ProgressBoard board_;
  LastLine last_line_;
  int64_t last_look_ = 0;      // ns of the steady clock
  int64_t watched_since_ = 0;  // when this process was last stopped, or started
  std::mutex mutex_;
  HangLimits limits_;
  bool stop_ = false;
  std::condition_variable wake_;
  std::thread thread_;
};

}  // namespace facet
