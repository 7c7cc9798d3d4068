#include "job/run_status.h"

namespace facet {

void RunStatus::set_step(int64_t step) {
  const std::lock_guard lock(mutex_);
  step_ = step;
}

void RunStatus::set_checkpoint(const std::string& checkpoint) {
  const std::lock_guard lock(mutex_);
  checkpoint_ = checkpoint;
}

int64_t RunStatus::step() const {
  const std::lock_guard lock(mutex_);
  return step_;
}

std::string RunStatus::checkpoint() const {
  const std::lock_guard lock(mutex_);
  return checkpoint_;
}

std::string RunStatus::exit_line(ExitCode code) const {
  const std::lock_guard lock(mutex_);
  return fmt::format("EXIT code={} reason={} step={} checkpoint={}", static_cast<int>(code),
                     name_of(code), step_, checkpoint_);
}

void end_job(MpiSession& session, const RunStatus& status, const std::exception& error) {
  const auto* known = dynamic_cast<const Error*>(&error);
  const ExitCode code = known != nullptr ? known->code() : ExitCode::kInternal;
  session.abort_job(code, error.what(), status.exit_line(code));
}

}  // namespace facet
