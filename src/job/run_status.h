// How far a training run got, for its last line, which the watchdog's thread may have to print.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <string>

#include "base/check.h"
#include "comm/mpi_session.h"

namespace facet {

class RunStatus {
 public:
  void set_step(int64_t step);                         // the last step taken
  void set_checkpoint(const std::string& checkpoint);  // the newest checkpoint

  int64_t step() const;
  std::string checkpoint() const;  // "none" for none

  // kSaved: stopped on request, to be resumed.
  void set_code(ExitCode code) { code_ = code; }
  ExitCode code() const { return code_; }

  // How another thread than the main one, which must not call MPI, ends the job.
  using EndJob = std::function<void(ExitCode, const std::string&)>;
  void set_end_job(EndJob end_job) { end_job_ = std::move(end_job); }
  void end_job(ExitCode code, const std::string& message) const { end_job_(code, message); }

  // "EXIT code=85 reason=saved step=7 checkpoint=out/checkpoints/step_00000007"
  std::string exit_line(ExitCode code) const;

 private:
  mutable std::mutex mutex_;
  ExitCode code_ = ExitCode::kOk;
  int64_t step_ = 0;
  std::string checkpoint_ = "none";
  EndJob end_job_;
};

// For an error that the other ranks do not know of, so that they may wait for this one forever:
// ends the job at once, with the line.
[[noreturn]] void end_job(MpiSession& session, const RunStatus& status,
                          const std::exception& error);

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
