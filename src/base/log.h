// Console output, by rank 0 only: plain lines, flushed one by one, so that a batch log is complete
// when a job is killed. What stands in a line goes through printable_message (base/printable.h).
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace facet {

// Called once, when MPI is initialised. Until then every process counts as rank 0.
void set_log_rank(int rank);

// What each line begins with: nothing, as at the start, or the local time of day, "2026-11-29
// 11:07:12 ", in a log that is read afterwards. Lines of a message after its first have nothing.
enum class LineStamps : uint8_t { kNone, kTimeOfDay };
void set_line_stamps(LineStamps stamps);

// Prints to stdout on rank 0 only, or to stderr after log_to_stderr(): where stdout is for what the
// program was asked for.
void log_to_stderr();
void log_line(const std::string& line);
// A text of the program's own that has several lines, each a line of the log, and is read as a
// whole: options that a file can take over, a table. No line of it has a stamp. Nothing of the
// outside world in it may hold a newline.
void log_lines(std::string_view lines);
// Prints to stderr on rank 0 only, with the prefix "warning: ".
void warn_line(const std::string& line);

template <typename... Args>
void log(fmt::format_string<Args...> format, Args&&... args) {
  log_line(fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  warn_line(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace facet
