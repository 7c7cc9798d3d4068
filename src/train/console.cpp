#include "train/console.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/log.h"

namespace facet {

namespace {

std::string list_text(const std::vector<double>& values) {
  std::string text;
  for (const double value : values)
    text += fmt::format("{}{:.6g}", text.empty() ? "" : ", ", value);
  return "[" + text + "]";
}

std::string output_of(int64_t pid) {
  std::error_code error;
  return std::filesystem::read_symlink(fmt::format("/proc/{}/fd/1", pid), error).string();
}

int64_t parent_of(int64_t pid) {  // 0 at the end
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(file, text);
  // "PID (NAME) STATE PARENT ..."; a name may hold blanks and brackets.
  std::istringstream after_name(text.substr(std::min(text.size(), text.rfind(')') + 1)));
  std::string state;
  int64_t parent = 0;
  after_name >> state >> parent;
  return parent;
}

// mpirun gives its ranks a terminal of their own wherever its own output goes. What counts is the
// output of the nearest ancestor that writes elsewhere; wrappers (timeout, numactl) may lie
// between.
bool shows_on_terminal() {
  if (isatty(STDOUT_FILENO) == 0) return false;
  if (std::getenv("OMPI_COMM_WORLD_RANK") == nullptr) return true;
  const std::string mine = output_of(getpid());
  int64_t pid = getppid();
  while (pid > 1 && output_of(pid) == mine) pid = parent_of(pid);
  const std::string output = output_of(pid);
  return output.starts_with("/dev/pts/") || output.starts_with("/dev/tty");
}

}  // namespace

std::string clock_text(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string bar_text(int64_t step, int64_t total_steps, double loss, double seconds_left) {
  constexpr int64_t kWidth = 30;
  const int64_t done = total_steps > 0 ? step * kWidth / total_steps : kWidth;
  return fmt::format("[{}{}] {:3} %  step {} of {}  loss {:.4f}  {} left",
                     std::string(static_cast<size_t>(done), '#'),
                     std::string(static_cast<size_t>(kWidth - done), '.'),
                     total_steps > 0 ? 100 * step / total_steps : 100, step, total_steps, loss,
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

Console::Console(int64_t total_steps, int64_t steps_per_print, double beta1, double beta2)
    : total_steps_(total_steps), steps_per_print_(steps_per_print), terminal_(shows_on_terminal()) {
  next_.total_steps = total_steps;
  next_.beta1 = beta1;
  next_.beta2 = beta2;
}

void Console::clear_bar() {
  if (!bar_shown_) return;
  std::fputs("\r\033[K", stdout);
  std::fflush(stdout);  // an error on stderr may follow
  bar_shown_ = false;
}

void Console::line(const std::string& text) {
  clear_bar();
  log_line(text);
}

void Console::show(const StepReport& report) {
  ++steps_;
  seconds_ += report.seconds;
  ++recent_steps_;
  recent_tokens_ += report.tokens;
  recent_seconds_ += report.seconds;
  next_.skipped += report.skipped;
  next_.seconds_left =
      seconds_ / static_cast<double>(steps_) * static_cast<double>(total_steps_ - report.step);
  if (report.step % steps_per_print_ == 0 || report.step == total_steps_) {
    next_.step = report.step;
    next_.learning_rates = report.learning_rates;
    next_.loss = report.loss;
    next_.tokens_per_second = static_cast<double>(recent_tokens_) / recent_seconds_;
    line(next_.text());
    recent_steps_ = 0;
    recent_tokens_ = 0;
    recent_seconds_ = 0;
  }
  if (!terminal_) return;
  clear_bar();
  std::fputs(bar_text(report.step, total_steps_, report.loss, next_.seconds_left).c_str(), stdout);
  std::fflush(stdout);
  bar_shown_ = true;
}

}  // namespace facet
