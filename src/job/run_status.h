// How far a training run got, for its last line, which the watchdog's thread may have to print.
#pragma once

#include <cstdint>
#include <exception>
#include <mutex>
#include <string>

#include "base/check.h"
#include "comm/mpi_session.h"

namespace facet {

class RunStatus {
 public:
  void set_step(int64_t step);                         // the last step taken
  void set_checkpoint(const std::string& checkpoint);  // the newest checkpoint

  // kSaved: stopped on request, to be resumed.
  void set_code(ExitCode code) { code_ = code; }
  ExitCode code() const { return code_; }

  // "EXIT code=85 reason=saved step=7 checkpoint=out/checkpoints/step_00000007\n"
  std::string exit_line(ExitCode code) const;

 private:
  mutable std::mutex mutex_;
  ExitCode code_ = ExitCode::kOk;
  int64_t step_ = 0;
  std::string checkpoint_ = "none";
};

// For an error that the other ranks do not know of while they may be waiting for this one: prints
// the last line and ends the job at once.
[[noreturn]] void end_job(MpiSession& session, const RunStatus& status,
                          const std::exception& error);

}  // namespace facet
