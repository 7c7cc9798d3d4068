// facet train: set-up, the loop over epochs and steps, logs, checkpoints, exports.
#pragma once

#include <string>

#include "comm/session.h"
#include "train/options.h"

namespace facet {

// How far a run came, for the line that main prints at its end.
struct RunStatus {
  int64_t step = 0;
  ExitCode code = ExitCode::kOk;    // kSaved: stopped on request, to be continued
  std::string checkpoint = "none";  // the newest one
};

// Collective. Set-up errors are CollectiveErrors.
void train(Session& session, const Options& options, RunStatus& status);

// facet train --dry_run: the same set-up without weights and without a step; prints the plan.
void dry_run(Session& session, const Options& options);

// facet evaluate: the loss over the evaluation split.
void evaluate_command(Session& session, const Options& options);

}  // namespace facet
