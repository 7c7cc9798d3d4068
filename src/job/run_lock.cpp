#include "job/run_lock.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "base/check.h"
#include "io/file.h"

namespace facet {

namespace {

std::string host_name() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return name;
}

std::string job_id() {
  const char* id = std::getenv("SLURM_JOB_ID");
  return id != nullptr ? id : "none";
}

// The line of the lock file: "host NAME pid NUMBER job ID".
struct Holder {
  std::string host;
  int64_t pid = 0;
  std::string job;

  static Holder parse(const std::string& line) {
    Holder holder;
    std::string word;
    std::istringstream(line) >> word >> holder.host >> word >> holder.pid >> word >> holder.job;
    return holder;
  }
  std::string line() const { return fmt::format("host {} pid {} job {}", host, pid, job); }
};

std::string read_all(int fd) {
  char text[1024];
  const ssize_t length = pread(fd, text, sizeof text, 0);
  return length > 0 ? std::string(text, static_cast<size_t>(length)) : "";
}

bool process_lives(int64_t pid) { return kill(static_cast<pid_t>(pid), 0) == 0 || errno != ESRCH; }

}  // namespace

RunLock::RunLock(const std::string& output_dir) : path_(output_dir + "/run.lock") {
  fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  CHECK(fd_ >= 0, ExitCode::kIo, "{}: can't be written: {}", path_, std::strerror(errno));
  const bool locked = flock(fd_, LOCK_EX | LOCK_NB) == 0;
  const bool held_here = !locked && errno == EWOULDBLOCK;
  const std::string text = read_all(fd_);
  const Holder holder = Holder::parse(text);
  // Some network file systems have no flock; there the pid decides.
  const bool same_host = holder.host == host_name();
  const bool dead = same_host && (locked || !process_lives(holder.pid));
  if (held_here || (!text.empty() && !dead)) {
    close(fd_);
    fail(ExitCode::kConfig,
         "{} is in use by another run ({}); wait for it or choose another --output_dir{}",
         output_dir, holder.line(),
         same_host ? "" : fmt::format(", or delete {} if you know that run is gone", path_));
  }
  if (!text.empty()) dead_holder_ = holder.line();
  const std::string mine = Holder{host_name(), getpid(), job_id()}.line() + "\n";
  const auto length = static_cast<ssize_t>(mine.size());
  if (ftruncate(fd_, 0) != 0 || pwrite(fd_, mine.data(), mine.size(), 0) != length ||
      fsync(fd_) != 0) {
    const std::string reason = std::strerror(errno);
    close(fd_);
    fail(ExitCode::kIo, "{}: can't be written: {}", path_, reason);
  }
}

// The empty file is kept: deleting it could take the lock from a run that has just opened it.
RunLock::~RunLock() {
  if (ftruncate(fd_, 0) != 0) {
    // Nothing can be done here: the next run finds a dead holder and takes over.
  }
  close(fd_);
}

}  // namespace facet
