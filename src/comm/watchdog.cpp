#include "comm/watchdog.h"

#include <unistd.h>

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

volatile std::sig_atomic_t sigterm_came = 0;

extern "C" void note_sigterm(int) { sigterm_came = 1; }

// For the calling thread. No computing thread may handle a signal: oneDNN's matrix products use the
// stack pointer for other purposes.
void mask_sigterm(int how) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  ASSERT(pthread_sigmask(how, &signals, nullptr) == 0, "cannot set the signal mask");
}

}  // namespace

Watchdog::Watchdog(Communicator& world, const std::string& host, LastLine last_line)
    : rank_(world.rank()),
      hosts_(world.all_gather(host)),
      board_(world, host),
      last_line_(std::move(last_line)),
      last_look_(steady_now()),
      watched_since_(last_look_) {
  std::signal(SIGTERM, note_sigterm);
  mask_sigterm(SIG_BLOCK);
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
}

void Watchdog::set_limits(const HangLimits& limits) {
  const std::lock_guard lock(mutex_);
  limits_ = limits;
}

void Watchdog::watch() {
  mask_sigterm(SIG_UNBLOCK);
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, kPoll, [this] { return stop_; })) look();
}

void Watchdog::look() {
  if (const int code = board_.job_end(); code != 0) ::_exit(code);
  const int64_t now = steady_now();
  if (1e-9 * static_cast<double>(now - last_look_) > kPause) watched_since_ = now;
  last_look_ = now;
  const std::vector<RankProgress> progress = board_.read(watched_since_);
  if (const auto dead = dead_rank(progress))
    report(ExitCode::kDeadRank, fmt::format("rank {}: {}", rank_, death_report(*dead, progress)));
  if (const auto late = late_rank(progress, std::ssize(hosts_), limits_))
    report(ExitCode::kHang, hang_report(progress, hosts_, *late, limits_));
  if (sigterm_came != 0) end_by_sigterm();
}

// One process of the node prints the report; the others wait for that and exit with it.
void Watchdog::report(ExitCode code, const std::string& text) {
  constexpr int kPatience = 50;  // polls
  if (!board_.claim_report()) {
    for (int i = 0; i < kPatience && board_.job_end() == 0; ++i) std::this_thread::sleep_for(kPoll);
    ::_exit(board_.job_end() != 0 ? board_.job_end() : static_cast<int>(code));
  }
  // Who kills the job of a dead rank leaves little time, and may not read meanwhile.
  const milliseconds patience = code == ExitCode::kDeadRank ? kPoll : milliseconds{1000};
  print_end_report(text, last_line_(code), patience);
  board_.end_job(static_cast<int>(code));
  end_stopped_neighbours();
  ::_exit(static_cast<int>(code));
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

// Acts as if SIGTERM had no handler (unless the run has installed its own), but first tells the
// other processes that this is no failure.
void Watchdog::end_by_sigterm() const {
  note_leaving();  // before the other processes notice the exit
  std::signal(SIGTERM, SIG_DFL);
  ::kill(::getpid(), SIGTERM);
}

}  // namespace facet
