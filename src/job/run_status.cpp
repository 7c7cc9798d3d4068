#include "job/run_status.h"

#include <unistd.h>

#include <cstdio>

namespace facet {

void RunStatus::set_step(int64_t step) {
  const std::lock_guard lock(mutex_);
  step_ = step;
}

void RunStatus::set_checkpoint(const std::string& checkpoint) {
  const std::lock_guard lock(mutex_);
  checkpoint_ = checkpoint;
}

std::string RunStatus::exit_line(ExitCode code) const {
  const std::lock_guard lock(mutex_);
  return fmt::format("EXIT code={} reason={} step={} checkpoint={}\n", static_cast<int>(code),
                     name_of(code), step_, checkpoint_);
}

void end_job(MpiSession& session, const RunStatus& status, const std::exception& error) {
  const auto* known = dynamic_cast<const Error*>(&error);
  const ExitCode code = known != nullptr ? known->code() : ExitCode::kInternal;
  std::fputs(status.exit_line(code).c_str(), stdout);
  session.abort_job(code, error.what());
}

void end_process(const RunStatus& status, ExitCode code, const std::string& message) {
  // Bypasses stdio, whose locks the main thread may hold.
  const auto print = [](int file, const std::string& text) {
    static_cast<void>(!::write(file, text.data(), text.size()));
  };
  print(STDERR_FILENO, "error: " + message + "\n");
  print(STDOUT_FILENO, status.exit_line(code));
  ::_exit(static_cast<int>(code));
}

}  // namespace facet
