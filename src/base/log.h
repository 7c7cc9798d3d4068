// Console output, by rank 0 only: plain lines, flushed one by one, so that a batch log is complete
// when a job is killed.
#pragma once

#include <fmt/core.h>

#include <string>

namespace facet {

// Called once, when MPI is initialised. Until then every process counts as rank 0.
void set_log_rank(int rank);

// Prints to stdout on rank 0 only.
void log_line(const std::string& line);
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
