#include "base/log.h"

#include <algorithm>
#include <cstdio>

#include "base/printable.h"
#include "base/time_text.h"

namespace facet {
namespace {
int log_rank = 0;
LineStamps line_stamps = LineStamps::kNone;
bool to_stderr = false;

std::string stamp() {
  const bool stamped = line_stamps == LineStamps::kTimeOfDay;
  return stamped ? local_text(std::chrono::system_clock::now()) + ' ' : "";
}

void print(std::FILE* file, const std::string& stamp, const std::string& line) {
  if (log_rank != 0) return;
  const std::string shown = stamp + printable_message(line) + '\n';
  std::fwrite(shown.data(), 1, shown.size(), file);
  std::fflush(file);
}
}  // namespace

void set_log_rank(int rank) { log_rank = rank; }
void set_line_stamps(LineStamps stamps) { line_stamps = stamps; }
void log_to_stderr() { to_stderr = true; }
void log_line(const std::string& line) { print(to_stderr ? stderr : stdout, stamp(), line); }
void log_lines(std::string_view lines) {
  while (!lines.empty()) {
    const size_t end = std::min(lines.find('\n'), lines.size());
    print(to_stderr ? stderr : stdout, "", std::string(lines.substr(0, end)));
    lines.remove_prefix(std::min(end + 1, lines.size()));
  }
}
void warn_line(const std::string& line) { print(stderr, stamp(), "warning: " + line); }

}  // namespace facet
