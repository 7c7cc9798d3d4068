// What a training run writes for people: the logs, the lines on the console, the plot of the
// losses. Rank 0 writes; on other ranks the functions do nothing.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/run_state.h"
#include "options/options.h"
#include "train/console.h"
#include "train/loss_log.h"
#include "train/loss_plot.h"
#include "train/sample_log.h"
#include "train/step_report.h"
#include "train/tensorboard.h"

namespace facet {

// What the logs of this start of a run are about.
struct LogSubject {
  std::string host;
  std::vector<std::string> group_names, dataset_names;
  WorkPlan plan;
  LogOrigin origin;
};

class RunLogs {
 public:
  // `planted`: faults that options.cfg tells of.
  RunLogs(const Options& options, const std::string& planted, int rank)
      : options_(options), planted_(planted), writes_(rank == 0) {}

  // Begins the logs of a new run, or continues those of a run that is at `state`.
  void open(const RunState& state, const LogSubject& subject);

  void line(const std::string& text);
  void append(const StepReport& report);
  void append(const EvalReport& report);
  void append(const std::vector<SampleLine>& samples);  // those after a step
  // Training was held up by other work than a step.
  void took(Work work, double seconds);
  void draw_curve() const;

  // Of the whole run; nothing on other ranks than 0.
  std::optional<CurvePoint> last_evaluation() const {
    return eval_losses_.empty() ? std::nullopt : std::optional(eval_losses_.back());
  }

  // After which --sample_prompts were answered last; nothing on other ranks than 0.
  int64_t last_sampled_step() const { return sample_log_ ? sample_log_->last_step() : 0; }

  // Error(kIo) if somebody has removed the output directory.
  void find_files() const;
  // Flushes the logs to the disk and notes their lengths in the state.
  void sync(RunState& state);

 private:
  std::string options_text() const;

  const Options& options_;
  const std::string& planted_;
  bool writes_;
  std::vector<std::string> dataset_names_;
  std::unique_ptr<LossLog> loss_log_;
  std::unique_ptr<EvalLog> eval_log_;
  std::unique_ptr<SampleLog> sample_log_;     // with --sample_prompts
  std::unique_ptr<TensorBoard> tensorboard_;  // with --enable_tensorboard
  std::unique_ptr<Console> console_;
  std::vector<CurvePoint> step_losses_, eval_losses_;  // of the whole run
};

}  // namespace facet
