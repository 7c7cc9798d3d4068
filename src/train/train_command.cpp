#include "base/progress.h"
#include "train/commands.h"
#include "train/run.h"
#include "train/run_history.h"
#include "train/training_loop.h"

namespace facet {

namespace {

// An error that all ranks know of leaves them at a whole step, which is kept.
void run_to_the_end(Run& run) {
  TrainingLoop loop(run);
  try {
    begin_section(Section::kLog);
    loop.run();
  } catch (const CollectiveError& error) {
    loop.keep_what_is_done(error);
    throw;
  }
}

// However `body` ends on this rank, run.json says so.
template <typename Body>
void recorded(const Run& run, const Body& body) {
  try {
    body();
  } catch (const CollectiveError& error) {
    end_record(run, error.code(), KnownTo::kAllRanks);
    throw;
  } catch (const Error& error) {
    end_record(run, error.code(), KnownTo::kThisRank);
    throw;
  } catch (const std::exception&) {
    end_record(run, ExitCode::kInternal, KnownTo::kThisRank);
    throw;
  }
  end_record(run, run.status.code(), KnownTo::kAllRanks);
}

}  // namespace

void train(MpiSession& session, const Options& options, RunStatus& status,
           const OpenQuestions& open_questions) {
  Run run(session, options, status, open_questions);
  end_job_on_error(session, status, [&] { recorded(run, [&] { run_to_the_end(run); }); });
}

}  // namespace facet
