// How long the Slurm job may still run.
#pragma once

#include <optional>
#include <string>

namespace facet {

// What squeue prints for %L: [D-]HH:MM:SS, MM:SS or SS give seconds, UNLIMITED, NOT_SET and INVALID
// nothing. Anything else: Error(kBadData).
std::optional<double> parse_slurm_time(const std::string& text);

// Of the job that this process belongs to; nothing outside of a job and without a limit. Asks
// squeue; where that fails a warning says so.
std::optional<double> slurm_seconds_left();

}  // namespace facet
