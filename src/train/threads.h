// How many compute threads a rank gets.
#pragma once

#include <string>
#include <vector>

#include "comm/communicator.h"

namespace facet {

// This rank's share of the cores when every core is divided among the ranks of its host that may
// use it. masks: for each rank, "host 1101": a 1 for every core that it is bound to.
double share_of_cores(const std::vector<std::string>& masks, int rank);

// This rank's share of the visible cores, or `requested` where that is not 0. Rank 0 prints the
// numbers, and a warning where there are more threads than cores. Starts the threads:
// Error(kSystem) if the system has not as many. Collective.
int choose_threads(Communicator& world, const std::string& host, int64_t requested);

}  // namespace facet
