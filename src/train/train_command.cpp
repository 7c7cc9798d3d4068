#include "base/progress.h"
#include "train/commands.h"
#include "train/run.h"
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

}  // namespace

void train(MpiSession& session, const Options& options, RunStatus& status) {
  Run run(session, options, status);
  end_job_on_error(session, status, [&] { run_to_the_end(run); });
}

}  // namespace facet
