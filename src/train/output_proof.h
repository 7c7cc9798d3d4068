// facet train --dry_run --output_dir OUT: whether a run could use that directory, and how it would
// begin there.
#pragma once

#include <string>

#include "comm/communicator.h"
#include "options/options.h"
#include "train/data_setup.h"
#include "train/model_setup.h"

namespace facet {

// Collective. The directory must be writable, free of another run (its lock is taken meanwhile) and
// have room for a checkpoint and an export. Then looks for the checkpoint that the run would
// continue from, verifies it, and checks that it is of this run, as far as that can be told without
// the frozen weights. Prints what was found. A directory that is not there yet is not made. The
// model's table must have been laid out.
void prove_output_directory(const Options& options, ModelSetup& model, const DataSetup& data,
                            Communicator& world);

// The path itself, or the nearest directory above it that is there.
std::string nearest_existing(const std::string& path);

}  // namespace facet
