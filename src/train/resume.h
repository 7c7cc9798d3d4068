// Whether a run may continue from a checkpoint: it must be the same run, apart from options that
// don't change what is computed (OnResume in options/option_table.h).
#pragma once

#include <string>

#include "checkpoint/run_state.h"
#include "comm/communicator.h"
#include "model/config.h"
#include "options/options.h"
#include "train/data_setup.h"

namespace facet {

// The fields of RunState that say which run this is; the others keep their defaults. Collective.
RunState identify_run(const Options& options, const VlmConfig& model, const DataSetup& data,
                      const std::string& frozen_hash, int64_t total_steps, Communicator& world);

// Throws Error(kBadData) if the state of a checkpoint contradicts itself in what only this room
// knows: such a checkpoint is damaged.
void check_stored_state(const RunState& stored, const std::string& checkpoint);

// Throws one Error(kConfig) that lists every difference in what is computed.
void check_same_run(const RunState& stored, const RunState& now, const std::string& checkpoint);

// What differs although it may, and changes numbers: how they are rounded (ranks, batch split,
// precision, stage, ...) or the learning rates (length); a line each, empty if nothing does.
std::string changes_of_numbers(const RunState& stored, const RunState& now);

}  // namespace facet
