#include "train/progress_bar.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace facet {

namespace {

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

std::string share_text(int64_t done, int64_t total) {
  constexpr int64_t kWidth = 30;
  const int64_t filled = total > 0 ? done * kWidth / total : kWidth;
  return fmt::format("[{}{}] {:3} %", std::string(static_cast<size_t>(filled), '#'),
                     std::string(static_cast<size_t>(kWidth - filled), '.'),
                     total > 0 ? 100 * done / total : 100);
}

ProgressBar::ProgressBar() : terminal_(shows_on_terminal()) {}

void ProgressBar::clear() {
  if (!shown_) return;
  std::fputs("\r\033[K", stdout);
  std::fflush(stdout);  // an error on stderr may follow
  shown_ = false;
}

void ProgressBar::show(const std::string& text) {
  if (!terminal_) return;
  clear();
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
  shown_ = true;
}

}  // namespace facet
