#include "job/time_limit.h"

#include <atomic>
#include <cmath>
#include <thread>

#include "base/check.h"
#include "base/log.h"
#include "base/start_thread.h"
#include "job/slurm_job.h"

namespace facet {

// Written by the thread until `complete`, read by the main thread after that.
struct TimeLimit::Answer {
  std::optional<double> left;
  std::string problem;  // empty: `left` is right
  Timer age;
  std::atomic<bool> complete{false};

  void get(const Ask& ask) {
    try {
      left = ask();
    } catch (const std::exception& error) {
      problem = error.what();
    }
    age.restart();
    complete = true;
  }
};

TimeLimit::TimeLimit(double max_hours, Ask ask, double again_seconds)
    : ask_(std::move(ask)), again_seconds_(again_seconds) {
  constexpr double kSecondsOfHour = 3600;
  if (max_hours > 0) {
    ask_ = nullptr;
    left_ = max_hours * kSecondsOfHour;
    return;
  }
  Answer first;
  first.get(ask_);
  if (!first.problem.empty())
    warn("cannot get the job's time limit from squeue ({}); give --max_hours to save before it",
         first.problem);
  take(first);
}

std::optional<double> TimeLimit::seconds_left() {
  if (ask_ && awaited_ == nullptr && since_asked_.seconds() >= again_seconds_) begin_to_ask();
  if (awaited_ != nullptr && awaited_->complete) {
    take(*awaited_);
    awaited_.reset();
  }
  if (!left_) return std::nullopt;
  return *left_ - since_answer_.seconds();
}

// The thread is left alone: the end of a run must not wait for squeue.
void TimeLimit::begin_to_ask() {
  since_asked_.restart();
  const auto answer = std::make_shared<Answer>();
  try {
    start_thread("asking squeue", [&] {
      return std::thread([answer, ask = ask_] { answer->get(ask); });
    }).detach();
    awaited_ = answer;
  } catch (const Error&) {
    // No more threads just now; the last answer holds until the next time.
  }
}

// Without an answer the last one holds.
void TimeLimit::take(const Answer& answer) {
  constexpr double kWorthALine = 60;  // seconds
  if (!answer.problem.empty()) return;
  const std::optional<double> before =
      left_ ? std::optional(*left_ - since_answer_.seconds()) : std::nullopt;
  left_ = answer.left;
  since_answer_ = answer.age;
  if (!left_) return;
  if (!before)
    log("Slurm job {}: {:.0f} s left; will save and stop before that",
        SlurmJob::of_this_process().id, *left_);
  else if (std::abs(*before - *left_) > kWorthALine)
    log("Slurm job {}: its limit was changed: {:.0f} s left", SlurmJob::of_this_process().id,
        *left_);
}

}  // namespace facet
