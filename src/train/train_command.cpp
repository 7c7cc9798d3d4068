#include "base/progress.h"
#include "train/commands.h"
#include "train/run.h"
#include "train/training_loop.h"

namespace facet {

namespace {

// A checkpoint that is being written is not lost with an error that all ranks know of.
void run_to_the_end(Run& run) {
  try {
    begin_section(Section::kLog);
    TrainingLoop(run).run();
  } catch (const CollectiveError&) {
    run.checkpoints->settle_after_error(run.logs);
    throw;
  }
}

}  // namespace

void train(MpiSession& session, const Options& options, RunStatus& status) {
  Run run(session, options, status);
  end_job_on_error(session, status, [&] { run_to_the_end(run); });
}

}  // namespace facet
