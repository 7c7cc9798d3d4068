// A thread in every process that ends the job when a rank hangs or died, with one report. It calls
// no MPI: what it knows lies in the node's shared memory (progress_board.h).
//
// A rank hangs when it has made no progress for longer than its section allows: the report names
// whom the others wait for, and all processes end with ExitCode::kHang. The death of a neighbour is
// always looked for: launchers end the survivors with SIGTERM at once and SIGKILL a little later,
// and the report has to come in between.
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
  // What is printed last when the watchdog ends the job; called by its thread.
  using LastLine = std::function<std::string(ExitCode)>;

  // Collective. Nobody is taken for hung before limits were set.
  Watchdog(Communicator& world, const std::string& host, LastLine last_line);
  // This process ends in order from here on.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  void set_limits(const HangLimits& limits);

 private:
  void watch();
  void look();
  [[noreturn]] void report(ExitCode code, const std::string& text);
  void end_stopped_neighbours() const;
  void obey_sigterm() const;

  const int64_t rank_;
  const std::vector<std::string> hosts_;  // of all ranks
  ProgressBoard board_;
  LastLine last_line_;
  int64_t last_look_ = 0;      // ns of the steady clock
  int64_t watched_since_ = 0;  // without a pause
  std::mutex mutex_;
  HangLimits limits_;
  bool stop_ = false;
  std::condition_variable wake_;
  std::thread thread_;
};

}  // namespace facet
