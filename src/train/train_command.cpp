#include "base/progress.h"
#include "job/stop_signals.h"
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
  install_stop_signals();  // one that comes while the model is loaded takes effect after step 1
  Run run(session, options, status);
  end_job_on_error(session, status, [&] { run_to_the_end(run); });
}

}  // namespace facet
