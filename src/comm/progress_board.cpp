#include "comm/progress_board.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <functional>
#include <new>

#include "base/check.h"
#include "comm/mpi_session.h"

namespace facet {

namespace {

// Pids are comparable only within one.
int64_t pid_namespace() {
  struct stat status {};
  return stat("/proc/self/ns/pid", &status) == 0 ? static_cast<int64_t>(status.st_ino) : 0;
}

}  // namespace

// The shared memory starts zeroed; entries of ranks on other nodes stay zero.
struct ProgressBoard::Entry {
  int64_t pid;  // these three are written once, before any other process reads
  int64_t pid_namespace;
  char host[64];
  ProgressSlot progress;
};

struct ProgressBoard::Board {
  std::atomic<int64_t> claimed;
  std::atomic<int64_t> end;
  std::atomic<int64_t> aborts;
  Entry entries[1];  // one per rank of the job
};

ProgressBoard::ProgressBoard(Communicator& world, const std::string& host)
    : rank_(world.rank()), size_(world.size()) {
  std::string name = fmt::format("/facet-{}-{}", ::getpid(), steady_now());
  world.broadcast(name, 0);
  name += fmt::format("-{:x}", std::hash<std::string>()(host));
  // Once all have opened it or one failed; succeeds on the first process of the node. No file is
  // left.
  const struct Unlink {
    const std::string& name;
    ~Unlink() { shm_unlink(name.c_str()); }
  } unlink_at_end{name};
  collectively(world, [&] { map(name, host); });
  const Entry& mine = board_->entries[rank_];
  for (int rank = 0; rank < size_; ++rank) {
    const Entry& entry = board_->entries[rank];
    if (entry.pid != 0 && entry.pid_namespace == mine.pid_namespace) ranks_.push_back(rank);
  }
  move_progress_to(&board_->entries[rank_].progress);
}

void ProgressBoard::map(const std::string& name, const std::string& host) {
  const auto check = [&](bool fine, const char* call) {
    CHECK(fine, ExitCode::kIo,
          "no shared memory /dev/shm{} of {} bytes for the watchdog: {}: {}; it needs a /dev/shm "
          "that is writable and has room: see df /dev/shm and remove stale files there",
          name, bytes_, call, std::strerror(errno));
  };
  bytes_ = sizeof(Board) + static_cast<size_t>(size_) * sizeof(Entry);
  const int file = shm_open(name.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR);
  check(file >= 0, "shm_open");
  errno = posix_fallocate(file, 0, static_cast<off_t>(bytes_));
  const bool fits = errno == 0;
  void* const memory =
      fits ? mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
  const int error = errno;
  close(file);
  errno = error;
  check(memory != MAP_FAILED, fits ? "mmap" : "posix_fallocate");
  board_ = static_cast<Board*>(memory);
  Entry& mine = board_->entries[rank_];
  new (&mine.progress) ProgressSlot;
  mine.pid = ::getpid();
  mine.pid_namespace = pid_namespace();
  host.copy(mine.host, sizeof mine.host - 1);
}

ProgressBoard::~ProgressBoard() {
  move_progress_to(nullptr);
  munmap(board_, bytes_);
}

std::vector<RankProgress> ProgressBoard::read(int64_t watched_since) const {
  constexpr double kSurelyAlive =
      0.2;  // seconds since its progress within which a process needs no further check
  const int64_t now = steady_now();
  std::vector<RankProgress> progress;
  for (const int64_t rank : ranks_) {
    const Entry& entry = board_->entries[rank];
    const ProgressSlot& slot = entry.progress;
    RankProgress& p = progress.emplace_back();
    p.rank = rank;
    p.pid = entry.pid;
    p.host = entry.host;
    // Read in this order: the section seen here began before the progress time read below.
    p.leaving = slot.leaving.load(std::memory_order_acquire) != 0;
    p.section = static_cast<Section>(slot.section.load(std::memory_order_acquire));
    p.awaited.number = slot.awaited.load(std::memory_order_acquire);
    p.awaited.kind = static_cast<Collective>(slot.awaited_kind.load(std::memory_order_relaxed));
    p.begun.number = slot.begun.load(std::memory_order_acquire);
    p.begun.kind = static_cast<Collective>(slot.begun_kind.load(std::memory_order_relaxed));
    p.step = slot.step.load(std::memory_order_relaxed);
    p.num_samples = slot.num_samples.load(std::memory_order_acquire);
    for (size_t i = 0; i < ProgressSlot::kSamples && static_cast<int64_t>(i) < p.num_samples; ++i)
      p.samples.push_back(slot.samples[i].load(std::memory_order_relaxed));
    const int64_t since = std::max(slot.progress.load(std::memory_order_acquire), watched_since);
    p.idle = 1e-9 * static_cast<double>(std::max<int64_t>(0, now - since));
    const bool gone = ::kill(static_cast<pid_t>(p.pid), 0) != 0 && errno == ESRCH;
    if (gone || p.idle > kSurelyAlive) p.process = process_state(p.pid);
    // Read again: it may have called note_leaving() and exited since.
    if (p.process == ProcessState::kGone) p.leaving = slot.leaving.load() != 0;
  }
  return progress;
}

bool ProgressBoard::claim_report() {
  int64_t unclaimed = 0;
  return board_->claimed.compare_exchange_strong(unclaimed, 1);
}

void ProgressBoard::end_job(int code) { board_->end.store(code, std::memory_order_release); }

int ProgressBoard::job_end() const {
  return static_cast<int>(board_->end.load(std::memory_order_acquire));
}

void ProgressBoard::note_abort() { board_->aborts.store(1, std::memory_order_release); }

bool ProgressBoard::aborts() const { return board_->aborts.load(std::memory_order_acquire) != 0; }

ProcessState process_state(int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(file, text);
  // "PID (NAME) STATE ..."; a name may contain blanks and parentheses.
  const size_t state_at = text.rfind(')') + 2;
  if (text.empty() || state_at >= text.size()) return ProcessState::kGone;
  switch (text[state_at]) {
    case 'T':
    case 't': return ProcessState::kStopped;
    case 'Z':
    case 'X': return ProcessState::kGone;
    default: return ProcessState::kRuns;
  }
}

}  // namespace facet
