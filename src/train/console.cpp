#include "train/console.h"

#include <fmt/core.h>

#include "base/log.h"

namespace facet {

namespace {

std::string list_text(const std::vector<double>& values) {
  std::string text;
  for (const double value : values)
    text += fmt::format("{}{:.6g}", text.empty() ? "" : ", ", value);
  return "[" + text + "]";
}

}  // namespace

std::string bar_text(int64_t step, int64_t total_steps, double loss, double seconds_left) {
  return fmt::format("step {} of {}  loss {:.4f}  {} left", step, total_steps, loss,
                     clock_text(seconds_left));
}

std::string StepLine::text() const {
  std::string momenta;
  for (size_t g = 0; g < learning_rates.size(); ++g)
    momenta += fmt::format("{}({:.6g}, {:.6g})", g == 0 ? "" : ", ", beta1, beta2);
  return fmt::format(
      "step={}, skipped={}, lr={}, mom=[{}], loss={:.6g}, tokens/s={:.0f}, left={} of {} steps",
      step, skipped, list_text(learning_rates), momenta, loss, tokens_per_second,
      clock_text(seconds_left), total_steps);
}

Console::Console(const WorkPlan& plan, int64_t steps_per_print, double beta1, double beta2)
    : plan_(plan), steps_per_print_(steps_per_print) {
  next_.total_steps = plan.total_steps;
  next_.beta1 = beta1;
  next_.beta2 = beta2;
}

void Console::line(const std::string& text) {
  bar_.clear();
  log_line(text);
}

void Console::show(const StepReport& report) {
  times_.add(Work::kStep, report.seconds);
  recent_tokens_ += report.tokens;
  recent_seconds_ += report.seconds;
  next_.skipped += report.skipped;
  next_.seconds_left = seconds_left(plan_, report.step, times_);
  if (report.step % steps_per_print_ == 0 || report.step == plan_.total_steps) {
    next_.step = report.step;
    next_.learning_rates = report.learning_rates;
    next_.loss = report.loss;
    next_.tokens_per_second = static_cast<double>(recent_tokens_) / recent_seconds_;
    line(next_.text());
    recent_tokens_ = 0;
    recent_seconds_ = 0;
  }
  bar_.show(report.step, plan_.total_steps,
            bar_text(report.step, plan_.total_steps, report.loss, next_.seconds_left));
}

}  // namespace facet
