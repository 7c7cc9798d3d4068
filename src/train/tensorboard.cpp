#include "train/tensorboard.h"

#include <fmt/format.h>

#include <algorithm>

namespace facet {

namespace {

constexpr const char* kEvalLoss = "Eval/loss";

std::string directory_of(const Options& options) {
  const std::string& path = options.tensorboard_path;
  return fmt::format("{}/{}", path.empty() ? options.output_dir : path,
                     options.tensorboard_job_name);
}

// The last evaluation at no more samples than that; -1: none.
int64_t last_evaluation(const std::string& directory, int64_t samples) {
  int64_t last = -1;
  for (const std::string& path : event_files(directory))
    for (const Event& event : read_events(path))
      for (const Scalar& scalar : event.scalars)
        if (scalar.tag == kEvalLoss && event.step <= samples) last = std::max(last, event.step);
  return last;
}

}  // namespace

// A checkpoint may stand between a step and the evaluation after it, which both have the same x. A
// run killed after the evaluation makes it again: what a file has already isn't written twice.
TensorBoard::TensorBoard(const Options& options, const RunState& state, const std::string& host,
                         const std::vector<std::string>& dataset_names)
    : dataset_names_(dataset_names),
      scales_(options.precision == "fp16"),
      breakdown_(options.wall_clock_breakdown),
      samples_(state.samples_seen),
      evaluated_samples_(state.step > 0 ? last_evaluation(directory_of(options), samples_) : -1),
      file_(directory_of(options), host) {
  file_.session_start(state.step > 0 ? samples_ + 1 : 0);
}

void TensorBoard::append(const StepReport& report) {
  samples_ += report.samples;
  add_losses("Train/Samples/train_loss", report.loss, report.datasets);
  add("Train/Samples/lr", report.learning_rates.front());
  if (scales_) add("Train/Samples/loss_scale", report.loss_scale);
  add("Train/gradient_norm", report.grad_norm);
  add("Train/clip_factor", report.clip_factor);
  add("Train/tokens", static_cast<double>(report.tokens));
  add("Train/memory_bytes", static_cast<double>(report.memory_bytes));
  if (report.seconds > 0) {
    add("Train/tokens_per_second", static_cast<double>(report.tokens) / report.seconds);
    add("Train/model_flops_per_second", static_cast<double>(report.model_flops) / report.seconds);
  }
  if (breakdown_) add_phases(report.phases);
  write();
}

// DeepSpeed's `backward` is the pass with the reduction in it.
void TensorBoard::add_phases(const PhaseTimes& phases) {
  const auto milliseconds = [&](const char* name, double seconds) {
    add(fmt::format("Train/Samples/elapsed_time_ms_{}", name), 1e3 * seconds);
  };
  const double backward = phases.seconds(StepPhase::kBackward);
  const double reduce = phases.seconds(StepPhase::kReduce);
  milliseconds("forward", phases.seconds(StepPhase::kForward));
  milliseconds("backward", backward + reduce);
  milliseconds("backward_inner", backward);
  milliseconds("backward_allreduce", reduce);
  milliseconds("step", phases.seconds(StepPhase::kOptimizer));
}

void TensorBoard::append(const EvalReport& report) {
  if (samples_ <= evaluated_samples_) return;
  evaluated_samples_ = samples_;
  add_losses(kEvalLoss, report.loss, report.datasets);
  write();
}

// A text for each round of each test, the question above its answer. Texts are read as Markdown.
void TensorBoard::append(const std::vector<SampleLine>& samples) {
  std::vector<Text> texts;
  for (const SampleLine& sample : samples) {
    const SampledAnswer& answer = sample.answer;
    texts.push_back({fmt::format("Samples/{}/{}", sample.test, sample.round),
                     fmt::format("{}\n\n---\n\n{}", sample.question.text,
                                 answer.error.empty() ? answer.text : answer.error)});
  }
  file_.write(samples_, texts);
}

// The loss, and that of each data set that had labelled tokens.
void TensorBoard::add_losses(const std::string& tag, double loss,
                             const std::vector<LossOfDataset>& datasets) {
  add(tag, loss);
  for (size_t d = 0; d < datasets.size(); ++d)
    if (datasets[d].labelled_tokens > 0)
      add(fmt::format("{}/{}", tag, dataset_names_[d]), datasets[d].mean());
}

void TensorBoard::write() {
  file_.write(samples_, scalars_);
  scalars_.clear();
}

}  // namespace facet
