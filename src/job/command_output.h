// What another program prints.
#pragma once

#include <string>
#include <vector>

namespace facet {

struct CommandEnd {
  int code = 0;      // exit code, or 128 and the signal's number
  std::string text;  // stdout and stderr, at most 64 KiB, without blanks at its ends
};

// Runs `words`, a program found in PATH and its arguments, without a shell, and waits for it for at
// most this many seconds: then it is killed with all that it has started. `environment` holds
// NAME=VALUE. Throws Error(kMissingInput) if it cannot be started or does not end in time.
CommandEnd run_command(const std::vector<std::string>& words,
                       const std::vector<std::string>& environment, double seconds);

}  // namespace facet
