// facet train: set-up, the loop over epochs and steps, logs, checkpoints, exports.
#pragma once

#include "comm/session.h"
#include "train/options.h"
#include "train/run_status.h"

namespace facet {

// Collective. Set-up errors are CollectiveErrors.
void train(Session& session, const Options& options, RunStatus& status);

// facet train --dry_run: the same set-up without weights and without a step; prints the plan.
void dry_run(Session& session, const Options& options);

// facet evaluate: the loss over the evaluation split.
void evaluate_command(Session& session, const Options& options);

}  // namespace facet
