// Writes a checkpoint's arrays through parallel HDF5: all ranks together, over MPI-IO.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "checkpoint/state_file.h"
#include "comm/communicator.h"

namespace facet {

// write_ranges by all ranks together, with the same bytes in the file. If a call fails on one rank
// the others may wait in it forever: the error thrown here must end the job, so it must not go
// through collectively().
std::vector<WrittenRange> write_ranges_collectively(const std::string& path,
                                                    const std::vector<StoredArray>& arrays,
                                                    std::span<const StateRange> ranges,
                                                    const WriteMoments& at_moment,
                                                    Communicator& world);

}  // namespace facet
