// The remaining time of the Slurm job.
#pragma once

#include <optional>
#include <string>

namespace facet {

// Parses squeue's %L: [D-]HH:MM:SS, MM:SS or SS give seconds; UNLIMITED, NOT_SET and INVALID give
// nothing. Anything else: Error(kBadData).
std::optional<double> parse_slurm_time(const std::string& text);

// The id of the job that this process belongs to; empty outside a job.
std::string slurm_job();

// Of that job; nothing outside a job or without a limit. Asks squeue, for at most 20 s. Throws
// Error if that fails.
std::optional<double> slurm_seconds_left();

}  // namespace facet
