#include "train/run_logs.h"

#include "base/printable.h"
#include "io/file.h"
#include "train/run_setup.h"
#include "train/version.h"

namespace facet {

void RunLogs::open(const RunState& state, const std::string& host,
                   const std::vector<std::string>& group_names,
                   const std::vector<std::string>& dataset_names) {
  if (!writes_) return;
  const std::string& out = options_.output_dir;
  write_file(out + "/options.cfg", options_text());
  dataset_names_ = dataset_names;
  loss_log_ = std::make_unique<LossLog>(out, group_names, dataset_names, state.loss_log_bytes);
  eval_log_ = std::make_unique<EvalLog>(out, dataset_names, state.eval_log_bytes);
  if (options_.enable_tensorboard)
    tensorboard_ = std::make_unique<TensorBoard>(options_, state, host, dataset_names);
  step_losses_ = read_curve(out + "/loss_log.csv");
  eval_losses_ = read_curve(out + "/eval_log.csv");
  step_losses_.reserve(static_cast<size_t>(state.total_steps));
  console_ = std::make_unique<Console>(state.total_steps, options_.steps_per_print,
                                       options_.adam_betas[0], options_.adam_betas[1]);
  console_->count_skipped(state.skipped_steps);
}

namespace {

// Why the step was skipped, and with which loss scale where there is one.
std::string skip_text(const StepReport& report) {
  const std::string place = report.first_bad_parameter.empty()
                                ? fmt::format("loss {}", report.loss)
                                : fmt::format("first in {}", report.first_bad_parameter);
  const std::string scale =
      report.loss_scale != 1 ? fmt::format(", loss scale {}", report.loss_scale) : "";
  return fmt::format("step {}: gradient norm {} ({}){}; skipped on all ranks", report.step,
                     report.grad_norm, place, scale);
}

}  // namespace

// What --config reads, and comments: who wrote it, and planted faults, which no option may bring
// back unasked.
std::string RunLogs::options_text() const {
  std::string text = fmt::format("# of {}\n", program_name());
  text += resolved_options(Command::kTrain, options_);
  if (!planted_.empty()) text += fmt::format("# planted faults: {}\n", printable(planted_));
  return text;
}

void RunLogs::line(const std::string& text) {
  if (writes_) console_->line(text);
}

void RunLogs::append(const StepReport& report) {
  if (!writes_) return;
  loss_log_->append(report);
  if (tensorboard_) tensorboard_->append(report);
  step_losses_.push_back({static_cast<double>(report.step), report.loss});
  if (report.skipped) console_->line(skip_text(report));
  console_->show(report);
}

void RunLogs::append(const EvalReport& report) {
  if (!writes_) return;
  eval_log_->append(report);
  if (tensorboard_) tensorboard_->append(report);
  eval_losses_.push_back({static_cast<double>(report.step), report.loss});
  console_->line(fmt::format("eval: step={}, loss={:.6g}, samples={}, labelled_tokens={}, {:.1f} s",
                             report.step, report.loss, report.samples, report.labelled_tokens,
                             report.seconds));
  if (const std::string bad = bad_samples_text(dataset_names_, report.bad_samples); !bad.empty())
    console_->line(fmt::format("eval: bad samples left out: {}", bad));
}

void RunLogs::draw_curve() const {
  if (writes_) write_loss_curve(options_.output_dir, step_losses_, eval_losses_);
}

void RunLogs::find_files() const {
  if (writes_) loss_log_->find_again();
}

void RunLogs::sync(RunState& state) {
  if (!writes_) return;
  state.loss_log_bytes = loss_log_->sync();
  state.eval_log_bytes = eval_log_->sync();
  if (tensorboard_) tensorboard_->sync();
}

}  // namespace facet
