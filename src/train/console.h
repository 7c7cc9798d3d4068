// What a training run shows while it runs: a line every few steps, and a progress bar on a
// terminal.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/progress_bar.h"
#include "train/step_report.h"
#include "train/time_left.h"

namespace facet {

// "step=20, skipped=0, lr=[0.001, 1e-05], mom=[(0.9, 0.95), (0.9, 0.95)], loss=2.31, ..."
struct StepLine {
  int64_t step = 0, total_steps = 0, skipped = 0;
  std::vector<double> learning_rates;
  double beta1 = 0, beta2 = 0;
  double loss = 0, tokens_per_second = 0, seconds_left = 0;

  std::string text() const;
};

// Beside the bar: "step 5 of 10  loss 2.3100  0:00:12 left".
std::string bar_text(int64_t step, int64_t total_steps, double loss, double seconds_left);

class Console {
 public:
  Console(const WorkPlan& plan, int64_t steps_per_print, double beta1, double beta2);
  // Steps skipped before the run was resumed.
  void count_skipped(int64_t steps) { next_.skipped += steps; }
  void show(const StepReport& report);
  // Training was held up by other work than a step, for the time left.
  void took(Work work, double seconds) { times_.add(work, seconds); }
  // Any other line between two steps; the bar is cleared for it.
  void line(const std::string& text);

 private:
  WorkPlan plan_;
  int64_t steps_per_print_;
  StepLine next_;
  ProgressBar bar_;
  WorkTimes times_;
  int64_t recent_tokens_ = 0;  // since the last line
  double recent_seconds_ = 0;
};

}  // namespace facet
