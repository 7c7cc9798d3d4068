#include "comm/mpi_session.h"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>

#include "base/end_report.h"
#include "base/log.h"
#include "base/progress.h"
#include "comm/library_exit.h"
#include "comm/mpi_calls.h"

namespace facet {
MpiSession::MpiSession(int& argc, char**& argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  world_ = std::make_unique<Communicator>(MPI_COMM_WORLD);
  host_ = host_name();
  set_log_rank(rank());
}

MpiSession::~MpiSession() {
  world_.reset();
  MPI_Finalize();
}

void MpiSession::abort_job(ExitCode code, const std::string& message,
                           const std::string& last_line) {
  note_leaving();
  LibraryExit::expect();  // MPI_Abort exits
  std::fflush(stdout);
  print_end_report(fmt::format("error on rank {} ({}): {}", rank(), host_, message), last_line);
  before_abort_();
  MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
  std::abort();  // MPI_Abort does not return, but is not declared so
}

void collectively(Communicator& world, const std::function<void()>& fn) {
  int64_t code = 0;
  std::string message;
  try {
    fn();
  } catch (const CollectiveError&) {
    throw;  // every rank has this error already
  } catch (const Error& error) {
    code = static_cast<int64_t>(error.code());
    message = error.what();
  } catch (const std::bad_alloc&) {
    code = static_cast<int64_t>(ExitCode::kConfig);
    message = "out of memory";
  } catch (const std::exception& error) {
    code = static_cast<int64_t>(ExitCode::kInternal);
    message = error.what();
  }
  const int64_t failed = world.sum(int64_t{code != 0});
  if (failed == 0) return;
  // All report the error of the lowest failing rank.
  const int64_t last = world.size() - 1;
  const auto speaker = static_cast<int>(last - world.max(code != 0 ? last - world.rank() : -1));
  std::string text = message;
  if (failed < world.size() && world.rank() == speaker)
    text = fmt::format("rank {} ({}): {}", speaker, host_name(), message);
  world.broadcast(text, speaker);
  std::string code_text = std::to_string(code);
  world.broadcast(code_text, speaker);
  throw CollectiveError(static_cast<ExitCode>(std::stoi(code_text)), text);
}

}  // namespace facet
