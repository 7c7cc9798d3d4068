#include "train/progress_bar.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
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

constexpr int64_t kMostColumns = 80;

// Those of the terminal. One that does not tell has as many as any.
int64_t columns_of_terminal() {
  winsize size{};
  const bool told = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return told ? std::min<int64_t>(size.ws_col, kMostColumns) : kMostColumns;
}

}  // namespace

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

std::string clock_text(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string bar_line(int64_t done, int64_t total, const std::string& text, int64_t columns) {
  constexpr int64_t kAround = 10;  // "[", "] 100 %", two blanks
  constexpr int64_t kShortest = 5, kLongest = 30;
  const auto length = static_cast<int64_t>(text.size());
  const int64_t width = std::clamp(columns - kAround - length, kShortest, kLongest);
  const int64_t filled = total > 0 ? done * width / total : width;
  std::string line = fmt::format("[{}{}] {:3} %  {}", std::string(static_cast<size_t>(filled), '#'),
                                 std::string(static_cast<size_t>(width - filled), '.'),
                                 total > 0 ? 100 * done / total : 100, text);
  const auto most = static_cast<size_t>(std::max<int64_t>(columns, 0));
  if (line.size() <= most) return line;
  constexpr size_t kDots = 3;
  line.resize(most);
  if (most > kDots) line.replace(most - kDots, kDots, kDots, '.');
  return line;
}

ProgressBar::ProgressBar() : terminal_(shows_on_terminal()) {}

void ProgressBar::clear() {
  if (!shown_) return;
  std::fputs("\r\033[K", stdout);
  std::fflush(stdout);  // an error on stderr may follow
  shown_ = false;
}

void ProgressBar::show(int64_t done, int64_t total, const std::string& text) {
  if (!terminal_) return;
  clear();
  std::fputs(bar_line(done, total, text, columns_of_terminal()).c_str(), stdout);
  std::fflush(stdout);
  shown_ = true;
}

}  // namespace facet
