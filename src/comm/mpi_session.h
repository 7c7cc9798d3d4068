// MpiSession: MPI from the start to the end of the program, and how an error on one rank ends the
// job.
//
// Set-up runs under collectively(): whatever throws on any rank makes all ranks throw the same
// CollectiveError, so the job ends cleanly, with the cause printed once. Anything else that throws
// while other ranks may be waiting in a collective (inside a training step) ends the job by
// abort_job(). Neither can hang.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/check.h"
#include "comm/communicator.h"

namespace facet {

// An error that every rank throws.
class CollectiveError : public Error {
 public:
  using Error::Error;
};

class MpiSession {
 public:
  // MPI_Init_thread with MPI_THREAD_FUNNELED: only the main thread calls MPI. Also works without
  // mpirun or srun, as a job of one rank. Tells the log its rank.
  MpiSession(int& argc, char**& argv);
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  Communicator& world() { return *world_; }
  int rank() const { return world_->rank(); }
  int size() const { return world_->size(); }
  const std::string& host() const { return host_; }

  // Called by abort_job() before the job ends.
  void before_abort(std::function<void()> call) { before_abort_ = std::move(call); }
  // Prints the message with rank and host to stderr, then the last line to stdout, and ends the job
  // with that exit code.
  [[noreturn]] void abort_job(ExitCode code, const std::string& message,
                              const std::string& last_line);

 private:
  std::unique_ptr<Communicator> world_;
  std::string host_;
  std::function<void()> before_abort_ = [] {};
};

// Runs fn on every rank. If it throws an Error (or any std::exception) on one or more, all ranks
// throw CollectiveError with the lowest failing rank's message and code; the message names rank and
// host unless it failed everywhere.
void collectively(Communicator& world, const std::function<void()>& fn);

}  // namespace facet
