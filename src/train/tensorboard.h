// The scalars of a run in event files of TensorBoard (--enable_tensorboard), under the tags that
// DeepSpeed 0.16 uses and some more. Their step, x in TensorBoard, is the number of samples after
// the training step. Rank 0 only.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "checkpoint/run_state.h"
#include "io/event_file.h"
#include "options/options.h"
#include "train/sample_log.h"
#include "train/step_report.h"

namespace facet {

class TensorBoard {
 public:
  // Begins a file in TENSORBOARD_PATH/JOB_NAME, or OUT/JOB_NAME. If the run is at a later step than
  // 0, readers drop what earlier files hold from later steps. kIo.
  TensorBoard(const Options& options, const RunState& state, const std::string& host,
              const std::vector<std::string>& dataset_names);

  void append(const StepReport& report);
  void append(const EvalReport& report);
  void append(const std::vector<SampleLine>& samples);
  void sync() { file_.sync(); }

 private:
  void add(const std::string& tag, double value) {
    scalars_.push_back({tag, static_cast<float>(value)});
  }
  void add_phases(const PhaseTimes& phases);
  void add_losses(const std::string& prefix, double loss,
                  const std::vector<LossOfDataset>& datasets);
  void write();

  const std::vector<std::string> dataset_names_;
  const bool scales_;     // the loss, for fp16
  const bool breakdown_;  // of the time of a step, with --wall_clock_breakdown
  int64_t samples_;
  int64_t evaluated_samples_;  // of the last evaluation that a file has
  EventFile file_;
  std::vector<Scalar> scalars_;  // of the next event; reused
};

}  // namespace facet
