// The remaining time of the Slurm job.
#pragma once

#include <optional>
#include <string>

namespace facet {

// Parses squeue's %L: [D-]HH:MM:SS, MM:SS or SS give seconds; UNLIMITED, NOT_SET and INVALID give
// nothing. Anything else: Error(kBadData).
std::optional<double> parse_slurm_time(const std::string& text);

// Of the job that this process belongs to; nothing outside a job or without a limit. Asks squeue,
// which knows of a limit that was changed; where that fails SLURM_JOB_END_TIME counts. Error if
// there is neither.
std::optional<double> slurm_seconds_left();

}  // namespace facet
