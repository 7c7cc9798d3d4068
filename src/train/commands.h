// The subcommands that need all ranks. Set-up errors are CollectiveErrors.
#pragma once

#include "comm/mpi_session.h"
#include "job/run_status.h"
#include "options/options.h"
#include "train/questions.h"

namespace facet {

// facet train: set-up, the loop over epochs and steps, logs, checkpoints, exports. Collective, as
// are the others.
void train(MpiSession& session, const Options& options, RunStatus& status,
           const OpenQuestions& open_questions);

// facet train --dry_run: the same set-up without weights and without a step; prints the plan.
void dry_run(MpiSession& session, const Options& options, const OpenQuestions& open_questions);

// facet train --replay_step: a step of a run once more (train/replay_step.h).
void replay_step(MpiSession& session, const Options& options, RunStatus& status);

// facet evaluate: the loss over the evaluation split.
void evaluate_command(MpiSession& session, const Options& options);

// facet data-stats: lengths of the samples, what training would cut or leave out. Needs no weights
// and no image.
void data_stats(MpiSession& session, const Options& options);

// facet bandwidth: how fast all-reduces between the ranks are.
void bandwidth_command(MpiSession& session, const Options& options);

// facet cache-features: fills --feature_cache before a run.
void cache_features_command(MpiSession& session, const Options& options, RunStatus& status);

}  // namespace facet
