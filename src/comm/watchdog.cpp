#include "comm/watchdog.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>

#include "base/end_report.h"
#include "base/start_thread.h"
#include "comm/mpi_session.h"

namespace facet {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPoll{100};
// A poll this late means that this process was stopped, perhaps with the whole job.
constexpr double kPause = 2;  // seconds

}  // namespace

Watchdog::Watchdog(Communicator& world, const std::string& host, Questions questions)
    : rank_(world.rank()),
      hosts_(world.all_gather(host)),
      board_(world, host),
      others_(connect_hosts(world, board_.ranks())),
      ask_(std::move(questions)),
      last_look_(steady_now()),
      watched_since_(last_look_) {
  try {
    collectively(world, [this] {
      thread_ = start_thread("the watchdog", [this] { return std::thread([this] { watch(); }); });
    });
  } catch (...) {
    stop();
    throw;
  }
}

Watchdog::~Watchdog() { stop(); }

void Watchdog::stop() {
  note_leaving();
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  if (others_.watch) others_.watch->say_goodbye();
}

void Watchdog::expect_abort() {
  if (others_.ranks.size() == 1) return;
  if (others_.watch) {
    const std::lock_guard lock(mutex_);
    others_.watch->say_goodbye();
  } else {
    board_.note_abort();
    std::this_thread::sleep_for(2 * kPoll);  // until the host's first rank has seen it
  }
}

void Watchdog::end_job(ExitCode code, const std::string& message) {
  const std::lock_guard lock(mutex_);
  report(code, "error: " + message);
}

void Watchdog::set_limits(const HangLimits& limits) {
  const std::lock_guard lock(mutex_);
  limits_ = limits;
}

void Watchdog::watch() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, kPoll, [this] { return stop_; })) look();
}

void Watchdog::look() {
  if (const int code = board_.job_end(); code != 0) end(code);
  const int64_t now = steady_now();
  if (1e-9 * static_cast<double>(now - last_look_) > kPause) {
    watched_since_ = now;
    if (others_.watch) others_.watch->forgive_silence(now);
  }
  last_look_ = now;
  const std::vector<RankProgress> progress = board_.read(watched_since_);
  look_at_ranks(progress);
  if (others_.watch) look_at_hosts(progress, now);
  if (const int signal = ask_.signal_that_ends(); signal != 0) end_by_signal(signal);
}

void Watchdog::look_at_ranks(const std::vector<RankProgress>& progress) {
  if (const auto dead = dead_rank(progress))
    report(ExitCode::kDeadRank, fmt::format("rank {}: {}", rank_, death_report(*dead, progress)));
  if (const auto late = late_rank(progress, std::ssize(hosts_), limits_))
    report(ExitCode::kHang, hang_report(progress, hosts_, *late, limits_));
  if (!ask_.sigterm_came()) return;
  if (auto stopped = stopped_rank(progress, kSigtermPatience)) {
    HangLimits limits;
    stopped->awaited = {};  // whatever it waits for, the others wait for it
    limits.of(stopped->section) = kSigtermPatience;
    report(ExitCode::kHang, hang_report(progress, hosts_, *stopped, limits));
  }
}

void Watchdog::look_at_hosts(const std::vector<RankProgress>& progress, int64_t now) {
  HostWatch& watch = *others_.watch;
  if (board_.aborts()) watch.say_goodbye();
  watch.exchange(now);
  if (const int code = watch.end_code(); code != 0 && board_.claim_report()) end(code);
  const bool hurry = ask_.sigterm_came() && all_wait(progress, kSigtermPatience);
  const double limit =
      hurry && limits_.host > 0 ? std::min(limits_.host, kSigtermPatience) : limits_.host;
  if (const auto lost = watch.lost(now, limit))
    report(ExitCode::kHang,
           lost_host_report(progress, hosts_, *lost, others_.ranks[static_cast<size_t>(lost->host)],
                            limit));
}

// One process of the node prints the report; the others wait for that and exit with it.
void Watchdog::report(ExitCode code, const std::string& text) {
  constexpr int kPatience = 50;  // polls
  if (!board_.claim_report()) {
    for (int i = 0; i < kPatience && board_.job_end() == 0; ++i) std::this_thread::sleep_for(kPoll);
    end(board_.job_end() != 0 ? board_.job_end() : static_cast<int>(code));
  }
  // Who kills the job of a dead rank leaves little time, and may not read meanwhile.
  const milliseconds patience = code == ExitCode::kDeadRank ? kPoll : milliseconds{1000};
  print_end_report(text, ask_.last_line(code), patience);
  end(static_cast<int>(code));
}

// With all other processes, of this host and of others.
void Watchdog::end(int code) {
  const bool known_here = board_.job_end() != 0;
  board_.end_job(code);
  if (others_.watch) others_.watch->end(code);
  if (!known_here) end_stopped_neighbours();
  ::_exit(code);
}

// Continues stopped processes, which then see the job's end and exit with the same code; a launcher
// that waits for every process must not wait for them.
void Watchdog::end_stopped_neighbours() const {
  constexpr milliseconds kWait{1000}, kStep{50};
  const auto each_stopped = [this](int signal) {
    bool any = false;
    for (const RankProgress& p : board_.read(0))
      if (p.process == ProcessState::kStopped) {
        any = true;
        ::kill(static_cast<pid_t>(p.pid), signal);
      }
    return any;
  };
  each_stopped(SIGCONT);
  for (milliseconds waited{0}; waited < kWait && each_stopped(SIGCONT); waited += kStep)
    std::this_thread::sleep_for(kStep);
  each_stopped(SIGKILL);
}

// Acts as if the signal had no handler, but first tells the other processes that this is no
// failure.
void Watchdog::end_by_signal(int signal) {
  note_leaving();  // before the other processes notice the exit
  if (others_.watch) others_.watch->say_goodbye();
  std::signal(signal, SIG_DFL);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, signal);
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  ::kill(::getpid(), signal);
}

}  // namespace facet
