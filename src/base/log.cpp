#include "base/log.h"

#include <cstdio>

namespace facet {
namespace {
int log_rank = 0;

void print(std::FILE* file, const std::string& line) {
  if (log_rank != 0) return;
  std::fwrite(line.data(), 1, line.size(), file);
  std::fputc('\n', file);
  std::fflush(file);
}
}  // namespace

void set_log_rank(int rank) { log_rank = rank; }
void log_line(const std::string& line) { print(stdout, line); }
void warn_line(const std::string& line) { print(stderr, "warning: " + line); }

}  // namespace facet
