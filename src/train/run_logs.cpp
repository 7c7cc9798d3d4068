#include "train/run_logs.h"

#include "base/log.h"
#include "base/printable.h"
#include "io/file.h"
#include "train/run_setup.h"
#include "train/version.h"

namespace facet {

void RunLogs::open(const RunState& state, const LogSubject& subject) {
  if (!writes_) return;
  const std::string& out = options_.output_dir;
  write_file(out + "/options.cfg", options_text());
  dataset_names_ = subject.dataset_names;
  loss_log_ = std::make_unique<LossLog>(out, subject.group_names, dataset_names_,
                                        state.loss_log_bytes, subject.origin);
  eval_log_ = std::make_unique<EvalLog>(out, dataset_names_, state.eval_log_bytes, subject.origin);
  if (!options_.sample_prompts.empty()) sample_log_ = std::make_unique<SampleLog>(out, state.step);
  if (options_.enable_tensorboard)
    tensorboard_ = std::make_unique<TensorBoard>(options_, state, subject.host, dataset_names_);
  step_losses_ = read_curve(out + "/loss_log.csv");
  eval_losses_ = read_curve(out + "/eval_log.csv");
  step_losses_.reserve(static_cast<size_t>(state.total_steps));
  console_ = std::make_unique<Console>(subject.plan, options_.steps_per_print,
                                       options_.adam_betas[0], options_.adam_betas[1]);
  console_->count_skipped(state.skipped_steps);
}

namespace {

// Of a text that may be long, whole characters.
std::string beginning_of(const std::string& text) {
  constexpr size_t kShown = 60;
  if (text.size() <= kShown) return text;
  size_t end = kShown;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0U) == 0x80U) --end;
  return text.substr(0, end) + "...";
}

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

// In two lines on the console: how many, and the first one's beginning.
void RunLogs::append(const std::vector<SampleLine>& samples) {
  if (!writes_ || samples.empty()) return;
  sample_log_->append(samples);
  if (tensorboard_) tensorboard_->append(samples);
  const SampleLine& first = samples.front();
  double seconds = 0;
  for (const SampleLine& sample : samples) seconds += sample.answer.seconds;
  console_->line(fmt::format("samples: step={}, {} answers, {:.1f} s of the ranks; {}: {}",
                             first.step, samples.size(), seconds, printable(first.test),
                             beginning_of(printable(first.answer.text))));
  for (const SampleLine& sample : samples)
    if (!sample.answer.error.empty())
      warn("--sample_prompts, test {}, round {}: no answer: {}", sample.test, sample.round,
           sample.answer.error);
}

void RunLogs::took(Work work, double seconds) {
  if (writes_) console_->took(work, seconds);
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
  if (sample_log_) sample_log_->sync();
  if (tensorboard_) tensorboard_->sync();
}

}  // namespace facet
