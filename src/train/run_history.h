// What run.json (train/run_record.h) is told of an open run.
#pragma once

#include <memory>

#include "train/run.h"

namespace facet {

// Opens the record on rank 0, and tells the options: all of a new run's, of one that goes on those
// that changed since its last start. Takes a run that has its checkpoints. Collective.
std::unique_ptr<RunRecord> open_record(const Run& run);

// The set-up has succeeded. On rank 0; nothing on others.
void begin_record(const Run& run);

// How the run ends. What one rank alone knows of that rank writes, else rank 0.
enum class KnownTo : uint8_t { kAllRanks, kThisRank };
void end_record(const Run& run, ExitCode code, KnownTo known);

}  // namespace facet
