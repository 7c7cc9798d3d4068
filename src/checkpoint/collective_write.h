// Writing a checkpoint's arrays through parallel HDF5: all ranks together, MPI-IO underneath.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "checkpoint/state_file.h"
#include "comm/communicator.h"

namespace facet {

// write_ranges for all ranks together, with the same bytes in the file. When a call fails on one
// rank the others may wait in it for ever: the error thrown here has to end the job, so it must not
// go through collectively().
std::vector<WrittenRange> write_ranges_collectively(const std::string& path,
                                                    const std::vector<StoredArray>& arrays,
                                                    std::span<const StateRange> ranges,
                                                    const WriteMoments& at_moment,
                                                    Communicator& world);

}  // namespace facet
