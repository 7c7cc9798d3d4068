// What a run takes from a checkpoint to compute its next step as if it had never stopped.
#pragma once

#include <optional>

#include "checkpoint/checkpoint.h"
#include "data/bad_samples.h"
#include "optim/loss_scaler.h"
#include "zero/engine.h"

namespace facet {

std::vector<StoredParam> stored_params(const std::vector<ParamGroup>& groups);

// Master weights, moments, the place in the run and its counts. `state` says which run this is, and
// then where it is. bad_samples may be nullptr. Collective.
void restore_run(CheckpointStore& store, const FoundCheckpoint& found, RunState& state,
                 Engine& engine, BadSampleBudget* bad_samples);

// The loss scale of fp16; warns if the checkpoint has none.
void restore_scaler(const RunState& state, std::optional<LossScaler>& scaler);

}  // namespace facet
