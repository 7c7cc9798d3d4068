#include "job/run_lock.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>

#include "base/check.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/start_thread.h"
#include "base/timer.h"

namespace facet {

namespace {

using Seconds = std::chrono::duration<double>;
using FileLock = LockFile::FileLock;
using Machine = LockHolder::Machine;

bool process_lives(int64_t pid) { return kill(static_cast<pid_t>(pid), 0) == 0 || errno != ESRCH; }

// By this machine's clock; the file's may be another's.
double age_of(const LockFile::Content& content) {
  return std::max(
      0.0, static_cast<double>(std::time(nullptr)) - 1e-9 * static_cast<double>(content.changed));
}

// What this process has found out about the holder that the file names.
struct Suspect {
  LockFile::Content first;  // the file as it was first seen
  LockHolder holder;
  Machine machine;
  JobState state = JobState::kUnknown;
  double age = 0;  // of the file when it was first seen
  Timer watched;

  double silence() const { return std::max(age, watched.seconds()); }
};

// One attempt to get the lock.
class Attempt {
 public:
  Attempt(const LockRequest& request, LockFile& file) : request_(request), file_(file) {}

  // Until this process may write its line; the name of the holder that died, if there was one.
  std::string run() {
    while (!has_taken()) {
      if (const char* const signal = request_.stop_signal())
        fail(ExitCode::kSaved, "stopped by {} while waiting for {}", signal, file_.path());
      std::this_thread::sleep_for(Seconds(request_.times.poll));
      note_progress();
    }
    return suspect_ ? suspect_->holder.name() : "";
  }

 private:
  bool has_taken() {
    const LockFile::Opened opened = opened_anew();
    lock_ = file_.lock();
    const std::optional<LockFile::Content> content = file_.look();
    const bool is_there = content && content->is_ours;  // else removed or made anew meanwhile
    if (is_there) since_there_.restart();
    CHECK(since_there_.seconds() < request_.times.gone, ExitCode::kIo, "{}: can't be read",
          file_.path());
    return is_there && may_take(*content, opened) && has_written();
  }

  LockFile::Opened opened_anew() {
    const std::optional<LockFile::Content> content = file_.look();
    return content && content->is_ours ? LockFile::Opened::kThere : file_.open();
  }

  bool may_take(const LockFile::Content& content, LockFile::Opened opened) {
    if (content.text.empty()) return may_take_empty(content, opened);
    if (!suspect_ || suspect_->first.text != content.text) suspect_holder(content);
    if (suspect_->machine == Machine::kSame) return is_dead_here();
    if (suspect_->machine == Machine::kPerhaps && lock_ == FileLock::kAnother) refuse("");
    if (suspect_->state == JobState::kThere)
      refuse(fmt::format("; squeue still knows its job. If that run is gone, delete {}",
                         file_.path()));
    if (content.changed != suspect_->first.changed) refuse("; it has shown a sign of life");
    return has_been_silent();
  }

  // Unless this process has created it, another may just have done so.
  bool may_take_empty(const LockFile::Content& content, LockFile::Opened opened) {
    if (!empty_since_) empty_since_.emplace();
    suspect_.reset();
    const double silence = std::max(age_of(content), empty_since_->seconds());
    const bool is_new = opened == LockFile::Opened::kCreated;
    CHECK(lock_ != FileLock::kAnother || empty_since_->seconds() < request_.times.gone,
          ExitCode::kConfig, "{} is locked by another process; choose {}", file_.path(),
          request_.another_place);
    return lock_ != FileLock::kAnother && (is_new || silence >= request_.times.settle);
  }

  void suspect_holder(const LockFile::Content& content) {
    const std::optional<LockHolder> holder = LockHolder::parse(content.text);
    CHECK(holder, ExitCode::kIo, "{}: is no lock of this program; move it away or choose {}",
          file_.path(), request_.another_place);
    suspect_.emplace(
        Suspect{content, *holder, holder->machine_of(request_.me), {}, age_of(content), {}});
    if (suspect_->machine == Machine::kOther)
      suspect_->state = state_of_holder(*holder, request_.job);
    if (suspect_->machine == Machine::kPerhaps && lock_ == FileLock::kThisProcess)
      suspect_->state = JobState::kGone;
  }

  // A process that holds the file lock lives; where there is none, the process is looked for.
  bool is_dead_here() const {
    if (lock_ == FileLock::kAnother) refuse("");
    if (lock_ == FileLock::kNobody && process_lives(suspect_->holder.pid)) refuse("");
    return true;
  }

  // The file lock of a machine that is gone may be kept for it by a server, so that is no sign.
  bool has_been_silent() {
    const LockTimes& times = request_.times;
    const bool believed = suspect_->state == JobState::kGone && lock_ != FileLock::kAnother;
    const bool dead =
        believed ? suspect_->silence() >= times.gone
                 : suspect_->silence() >= times.silent && suspect_->watched.seconds() >= times.gone;
    if (!dead && !told_)
      log("{} is held by another run ({}); waiting up to {:.0f} s for a sign of life",
          request_.output_dir, suspect_->holder.name(), believed ? times.gone : times.silent);
    told_ = true;
    return dead;
  }

  [[noreturn]] void refuse(const std::string& why) const {
    fail(ExitCode::kConfig, "{} is in use by another run ({}); wait for it or choose {}{}",
         request_.output_dir, suspect_->holder.name(), request_.another_place, why);
  }

  // Another machine, which does not see this one's file lock, may do the same at this moment.
  bool has_written() {
    file_.write(request_.me.line());
    if (!suspect_ || suspect_->machine == Machine::kSame) return true;
    std::this_thread::sleep_for(Seconds(request_.times.settle));
    const std::optional<LockFile::Content> content = file_.look();
    return content && content->text == request_.me.line();
  }

  const LockRequest& request_;
  LockFile& file_;
  FileLock lock_ = FileLock::kNobody;
  std::optional<Suspect> suspect_;
  std::optional<Timer> empty_since_;
  Timer since_there_;
  bool told_ = false;
};

}  // namespace

RunLock::RunLock(LockRequest request)
    : request_(std::move(request)),
      line_(request_.me.line()),
      file_(request_.output_dir + "/run.lock") {
  dead_holder_ = Attempt(request_, file_).run();
  thread_ = start_thread("the sign of life of run.lock",
                         [this] { return std::thread([this] { keep(); }); });
}

RunLock::~RunLock() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
  const std::optional<LockFile::Content> content = file_.look();
  if (content && content->text == line_) file_.remove();
}

void RunLock::keep() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, Seconds(request_.times.beat), [this] { return stop_; })) beat();
}

void RunLock::beat() {
  const std::optional<LockFile::Content> content = file_.look();
  if (!content) return restore();
  if (content->text == line_) return file_.renew();
  const std::optional<LockHolder> other = LockHolder::parse(content->text);
  if (!other) return;  // it is being written
  stop_ = true;
  if (request_.on_loss) request_.on_loss(other->name());
}

// Somebody has removed it.
void RunLock::restore() {
  try {
    file_.restore(line_);
  } catch (const Error&) {
    // The disk is full: the next beat tries again.
  }
}

}  // namespace facet
