// How much time a run has left.
//
// A Slurm job's limit gets changed while it runs (scontrol update, suspension), so it is asked for
// again every few minutes. The answer may take Slurm's controller 20 s: a thread waits for it, not
// the training.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "base/timer.h"
#include "job/slurm_time.h"

namespace facet {

class TimeLimit {
 public:
  using Ask = std::function<std::optional<double>()>;  // as slurm_seconds_left
  static constexpr double kAskAgainSeconds = 240;

  // max_hours > 0 count from here. With 0 it is the Slurm job's limit, if there is one: asks now,
  // and warns if nobody answers.
  explicit TimeLimit(double max_hours, Ask ask = slurm_seconds_left,
                     double again_seconds = kAskAgainSeconds);

  // Nothing: no limit, or none is known. Never waits.
  std::optional<double> seconds_left();

 private:
  struct Answer;

  void begin_to_ask();
  void take(const Answer& answer);

  Ask ask_;
  double again_seconds_;
  std::optional<double> left_;  // when since_answer_ was restarted
  Timer since_answer_, since_asked_;
  std::shared_ptr<Answer> awaited_;  // that a thread is waiting for; null: none
};

}  // namespace facet
