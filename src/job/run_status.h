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

// For an error that the other ranks do not know of, so that they may wait for this one forever:
// ends the job at once, with the line.
[[noreturn]] void end_job(MpiSession& session, const RunStatus& status,
                          const std::exception& error);

// The same by another thread than the main one, which must not call MPI: ends this process, and
// thereby the job.
[[noreturn]] void end_process(const RunStatus& status, ExitCode code, const std::string& message);

// Runs `body` and returns what it does. A CollectiveError is passed on; any other error ends the
// job on the spot, before the destructors further up wait: for a checkpoint that is being written,
// for a GPU whose collective the other ranks never join.
template <typename Body>
auto end_job_on_error(MpiSession& session, const RunStatus& status, const Body& body) {
  try {
    return body();
  } catch (const CollectiveError&) {
    throw;
  } catch (const std::exception& error) {
    end_job(session, status, error);
  }
}

}  // namespace facet
