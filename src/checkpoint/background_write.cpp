#include "checkpoint/background_write.h"

#include <algorithm>
#include <csignal>
#include <cstring>

#include "base/check.h"
#include "base/start_thread.h"

namespace facet {

namespace {

constexpr int64_t kPartsOfElement = 3;  // value and two moments

int64_t floats_of(std::span<const StateRange> ranges) {
  int64_t elements = 0;
  for (const StateRange& range : ranges) elements += range.count;
  return kPartsOfElement * elements;
}

void copy_in_parallel(float* to, const float* from, int64_t count) {
  constexpr int64_t kBlock = int64_t{1} << 16;
#pragma omp parallel for schedule(static)
  for (int64_t begin = 0; begin < count; begin += kBlock)
    std::memcpy(to + begin, from + begin,
                static_cast<size_t>(std::min(kBlock, count - begin)) * sizeof(float));
}

// Threads created during its lifetime receive no signals; the main thread does.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

int64_t Snapshot::bytes_for(int64_t elements) {
  Arena plan("the copy of the state");
  plan.tensor({kPartsOfElement * elements});
  return plan.peak();
}

// Zeroed, so that the first copy does not pay for the page faults.
void Snapshot::reserve(std::span<const StateRange> ranges) {
  const int64_t floats = floats_of(ranges);
  memory_.allocate(bytes_for(floats / kPartsOfElement));
  floats_ = memory_.tensor({floats});
  std::memset(floats_.raw(), 0, static_cast<size_t>(floats_.bytes()));
}

std::span<const StateRange> Snapshot::take(std::span<const StateRange> ranges) {
  if (!floats_.defined()) reserve(ranges);
  ASSERT(floats_of(ranges) == floats_.numel(), "a snapshot of {} numbers cannot hold {}",
         floats_of(ranges), floats_.numel());
  copies_.assign(ranges.begin(), ranges.end());
  float* next = floats_.f32();
  for (StateRange& copy : copies_)
    for (float** const part : {&copy.value, &copy.exp_avg, &copy.exp_avg_sq}) {
      copy_in_parallel(next, *part, copy.count);
      *part = next;
      next += copy.count;
    }
  return copies_;
}

BackgroundWrite::~BackgroundWrite() { give_up(); }

void BackgroundWrite::give_up() {
  stop();
  if (thread_.valid()) thread_.wait();
  thread_ = {};
}

void BackgroundWrite::start(const std::string& path, const std::vector<StoredArray>& arrays,
                            std::span<const StateRange> ranges, RangesStay stay,
                            const WriteMoments& at_moment) {
  ASSERT(!thread_.valid(), "{}: another write is in progress", path);
  const std::span<const StateRange> copies =
      stay == RangesStay::kUntilWritten ? ranges : snapshot_.take(ranges);
  ranges_.assign(copies.begin(), copies.end());
  stop_ = std::stop_source();
  progress_ = Progress::kWriting;
  const auto write = [=, this, stop = stop_.get_token()] {
    try {
      std::vector<WrittenRange> written = write_ranges(path, arrays, ranges_, at_moment, stop);
      progress_ = Progress::kWritten;
      return written;
    } catch (...) {
      progress_ = Progress::kFailed;
      throw;
    }
  };
  const SignalsBlocked in_the_thread;
  thread_ = start_thread("writing the checkpoint (leave out --async_checkpoint)",
                         [&] { return std::async(std::launch::async, write); });
}

std::vector<WrittenRange> BackgroundWrite::take() { return thread_.get(); }

}  // namespace facet
