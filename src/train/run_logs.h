// What a training run writes for people: the two logs, the lines on the console, the plot of the
// losses. Rank 0 writes; on other ranks the functions do nothing.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/run_state.h"
#include "options/options.h"
#include "train/console.h"
#include "train/loss_log.h"
#include "train/loss_plot.h"
#include "train/step_report.h"
#include "train/tensorboard.h"

namespace facet {

class RunLogs {
 public:
  RunLogs(const Options& options, int rank) : options_(options), writes_(rank == 0) {}

  // Begins the logs of a new run, or continues those of a run that is at `state`.
  void open(const RunState& state, const std::string& host,
            const std::vector<std::string>& group_names,
            const std::vector<std::string>& dataset_names);

  void line(const std::string& text);
  void append(const StepReport& report);
  void append(const EvalReport& report);
  void draw_curve() const;

  // Flushes the logs to the disk and notes their lengths in the state.
  void sync(RunState& state);

 private:
  const Options& options_;
  bool writes_;
  std::vector<std::string> dataset_names_;
  std::unique_ptr<LossLog> loss_log_;
  std::unique_ptr<EvalLog> eval_log_;
  std::unique_ptr<TensorBoard> tensorboard_;  // with --enable_tensorboard
  std::unique_ptr<Console> console_;
  std::vector<CurvePoint> step_losses_, eval_losses_;  // of the whole run
};

}  // namespace facet
