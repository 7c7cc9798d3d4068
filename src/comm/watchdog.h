// A thread in every process that ends the job with one report when a rank hangs or has died, or a
// host is lost. It calls no MPI: it reads the host's shared memory (progress_board.h), and on the
// first rank of each host it talks to other hosts over TCP (host_watch.h).
//
// A rank hangs when it has made no progress for longer than its section allows: the report names
// the ranks that the others wait for, and all processes end with ExitCode::kHang, as they do when
// nothing is heard of another host. Dead processes are looked for at all times: launchers send the
// survivors SIGTERM at once and SIGKILL a little later, and the report has to come in between.
//
// After SIGTERM, when all ranks that run here have waited kSigtermPatience seconds in collectives
// for a rank that is stopped or a host that has been silent as long, the save that the signal asks
// for cannot come about, and the job ends like that too.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "comm/hang_verdict.h"
#include "comm/host_connections.h"
#include "comm/progress_board.h"

namespace facet {

class Watchdog {
 public:
  static constexpr double kSigtermPatience = 5;

  // What it asks of the program; called by its thread.
  struct Questions {
    std::function<std::string(ExitCode)> last_line;  // printed when the watchdog ends the job
    std::function<bool()> sigterm_came = [] { return false; };
    // The signal by which this process has to end now; 0: none.
    std::function<int()> signal_that_ends = [] { return 0; };
  };

  // Collective. There are no limits until set_limits(). Error(kSystem) if the thread of a rank
  // can't start.
  Watchdog(Communicator& world, const std::string& host, Questions questions);
  // From now on this process may exit.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  void set_limits(const HangLimits& limits);
  // Ends the job with the error on all ranks of all hosts. By any thread.
  [[noreturn]] void end_job(ExitCode code, const std::string& message);
  // An error, which is told, is about to end the job: other hosts must not report this one as lost.
  void expect_abort();

 private:
  void stop();
  void watch();
  void look();
  void look_at_ranks(const std::vector<RankProgress>& progress);
  void look_at_hosts(const std::vector<RankProgress>& progress, int64_t now);
  [[noreturn]] void report(ExitCode code, const std::string& text);
  [[noreturn]] void end(int code);
  void end_stopped_neighbours() const;
  void end_by_signal(int signal);

  const int64_t rank_;
  const std::vector<std::string> hosts_;  // of all ranks of the job
  ProgressBoard board_;
  HostConnections others_;
  Questions ask_;
  int64_t last_look_ = 0;      // ns of the steady clock
  int64_t watched_since_ = 0;  // when this process was last stopped, or started
  std::mutex mutex_;
  HangLimits limits_;
  bool stop_ = false;
  std::condition_variable wake_;
  std::thread thread_;
};

}  // namespace facet
